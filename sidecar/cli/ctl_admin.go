package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// defaultAdmin is where the examples of the manual have the admin interface.
const defaultAdmin = "127.0.0.1:9901"

// adminFlag gives cmd the flag --admin and returns its value.
func adminFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("admin", defaultAdmin, "`ADDRESS` of the proxy's admin interface: HOST:PORT or unix:///PATH")
}

// adminClient asks the admin interface of a running proxy.
type adminClient struct {
	address string // as given
	base    string
	http    *http.Client
}

// newAdminClient returns a usage error for what is no address.
func newAdminClient(address string) (*adminClient, error) {
	c := &adminClient{address: address, http: &http.Client{Timeout: 15 * time.Second}}
	path, isSocket := strings.CutPrefix(address, "unix://")
	if isSocket = isSocket || strings.HasPrefix(address, "/"); isSocket && strings.HasPrefix(path, "/") {
		c.base = "http://localhost"
		c.http.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}}
		return c, nil
	}
	host := strings.TrimSuffix(strings.TrimPrefix(address, "http://"), "/")
	if _, port, err := net.SplitHostPort(host); err != nil || port == "" || isSocket || strings.ContainsAny(host, "/?#@ ") {
		return nil, &ExitError{Code: exitUsage, Err: fmt.Errorf("--admin %q is neither HOST:PORT nor unix:///PATH", address)}
	}
	c.base = "http://" + host
	return c, nil
}

// answerLimit bounds what is read of an answer.
const answerLimit = 64 << 20

// get decodes the answer to a GET of path. What no proxy of ours would answer is told as
// such.
func (c *adminClient) get(ctx context.Context, path string, query url.Values, into any) error {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return c.decode(ctx, http.MethodGet, path, into, http.StatusOK)
}

// decode is get for any method, where one of these statuses is good.
func (c *adminClient) decode(ctx context.Context, method, path string, into any, good ...int) error {
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(request)
	if err != nil {
		return c.unreachable(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerLimit))
	if err != nil {
		return c.unreachable(err)
	}
	if slices.Contains(good, resp.StatusCode) {
		if err := json.Unmarshal(body, into); err != nil {
			return fmt.Errorf("%s: the answer is not that of a proxy of ours: %w", c.address, err)
		}
		return nil
	}
	var failed struct{ Error string }
	if json.Unmarshal(body, &failed) != nil || failed.Error == "" {
		failed.Error = http.StatusText(resp.StatusCode)
	}
	return &answerError{status: resp.StatusCode, text: c.address + ": " + printable(failed.Error)}
}

// answerError is an answer that is not good.
type answerError struct {
	status int
	text   string
}

func (e *answerError) Error() string { return e.text }

// unreachable says what to look at when nobody answers.
func (c *adminClient) unreachable(err error) error {
	if asked, ok := errors.AsType[*url.Error](err); ok {
		err = asked.Err // without the URL
	}
	hint := ""
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT) {
		hint = "; is it running, and is --admin its admin.address or admin.socket?"
	}
	return fmt.Errorf("no proxy answers at %s: %w%s", c.address, err, hint)
}
