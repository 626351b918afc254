package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	// callTime bounds a request that is no watch.
	callTime = 10 * time.Second
	// watchTime is how long a watch lasts before it is renewed.
	watchTime = 4 * time.Minute
	// answerMost bounds an answer: a page of namespaces, with their annotations.
	answerMost = 64 << 20
)

// API is Kubernetes' API server, asked in plain HTTP: what the injector needs of it are four
// kinds of objects, for which a clientset would add more to the one binary than the injector is.
// Methods may be called from any goroutine and block until there is an answer.
type API struct {
	host   string
	client *http.Client
	errors atomic.Uint64
}

// Connect finds the API server: by a file for clients, or with an empty name as a pod finds
// the one it belongs to. It does not ask it anything.
func Connect(kubeconfig string) (*API, error) {
	config, err := restConfig(kubeconfig)
	if err != nil {
		return nil, err
	}
	config.UserAgent = "larboard-injector"
	config.ContentType = "application/json"
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("connect to Kubernetes: %w", err)
	}
	host := strings.TrimSuffix(config.Host, "/")
	if !strings.Contains(host, "://") {
		host = "https://" + host
	}
	return &API{host: host, client: client}, nil
}

func restConfig(kubeconfig string) (*rest.Config, error) {
	if kubeconfig != "" {
		config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
		if err != nil {
			return nil, fmt.Errorf("kubeconfig %s: %w", kubeconfig, err)
		}
		return config, nil
	}
	config, err := rest.InClusterConfig()
	if errors.Is(err, rest.ErrNotInCluster) {
		return nil, errors.New("this is no pod of Kubernetes: give the API server with --kubeconfig FILE")
	}
	if err != nil {
		return nil, fmt.Errorf("connect to Kubernetes: %w", err)
	}
	return config, nil
}

// apiError is the API server's answer instead of an object.
type apiError struct {
	Code            int
	Reason, Message string
}

func (e *apiError) Error() string {
	return fmt.Sprintf("%d %s: %s", e.Code, e.Reason, e.Message)
}

// isCode reports whether err is an answer with this status.
func isCode(err error, code int) bool {
	var e *apiError
	return errors.As(err, &e) && e.Code == code
}

// call sends a request and decodes the answer into out, where that is not nil. Header has
// Content-Type and Accept where JSON alone does not say it.
func (a *API) call(ctx context.Context, method, path string, header map[string]string, body, out any) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	resp, err := a.send(ctx, method, path, header, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, answerMost))
	if err == nil && out != nil {
		err = json.Unmarshal(data, out)
	}
	if err != nil {
		a.errors.Add(1)
		return fmt.Errorf("kubernetes: %s %s: %w", method, path, err)
	}
	return nil
}

// send sends a request; an answer of 300 and above is an *apiError.
func (a *API) send(ctx context.Context, method, path string, header map[string]string, body any) (*http.Response, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: %s %s: %w", method, path, err)
	}
	if body == nil {
		data = nil
	}
	req, err := http.NewRequestWithContext(ctx, method, a.host+path, bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Content-Type", "application/json")
	for name, value := range header {
		req.Header.Set(name, value)
	}
	resp, err := a.client.Do(req)
	if err != nil {
		a.errors.Add(1)
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	answer := &apiError{Code: resp.StatusCode, Message: string(text)}
	_ = json.Unmarshal(text, answer) // what is no Status stays text
	if resp.StatusCode != http.StatusNotFound && resp.StatusCode != http.StatusConflict {
		a.errors.Add(1)
	}
	return nil, fmt.Errorf("kubernetes: %s %s: %w", method, path, answer)
}

// event is one of a watch.
type event struct {
	Type   string
	Object json.RawMessage
}

// watch has each called with what changes at path, a list with a query that begins it, until
// the API server ends it after watchTime (nil), each returns an error, or something fails.
func (a *API) watch(ctx context.Context, path string, header map[string]string, each func(event) error) error {
	ctx, cancel := context.WithTimeout(ctx, watchTime+time.Minute) // a server that forgets it
	defer cancel()
	path = fmt.Sprintf("%s&watch=1&allowWatchBookmarks=true&timeoutSeconds=%d", path, int(watchTime.Seconds()))
	resp, err := a.send(ctx, http.MethodGet, path, header, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	decoder := json.NewDecoder(resp.Body)
	for {
		var e event
		if err := decoder.Decode(&e); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("kubernetes: watch %s: %w", path, err)
		}
		if e.Type == "ERROR" {
			answer := &apiError{}
			_ = json.Unmarshal(e.Object, answer)
			return fmt.Errorf("kubernetes: watch %s: %w", path, answer)
		}
		if err := each(e); err != nil {
			return err
		}
	}
}

// backoff is how long to wait after failures in a row: 0.25 s, doubled up to 15 s.
func backoff(failures int) time.Duration {
	return min(250*time.Millisecond<<min(failures, 10), 15*time.Second)
}

// sleep waits and reports whether ctx has not ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
