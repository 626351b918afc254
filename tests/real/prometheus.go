package real

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// PrometheusServer is a Prometheus of its own, on loopback.
type PrometheusServer struct {
	Address string // host:port

	t       testing.TB
	dir     string
	process *process
}

// Sample is one series of an answer and its value.
type Sample struct {
	Labels map[string]string
	Value  string
}

// Prometheus starts Debian's Prometheus and returns when it is ready. It scrapes the
// targets under the job larboard each second and evaluates the files of rules as often.
// It is stopped at the end of the test.
func Prometheus(t testing.TB, rules []string, targets ...string) *PrometheusServer {
	t.Helper()
	binary, err := exec.LookPath("prometheus")
	if err != nil {
		t.Fatalf("Debian's package prometheus is missing: %v", err)
	}
	p := &PrometheusServer{t: t, dir: shortTempDir(t), Address: fmt.Sprintf("127.0.0.1:%d", freePorts(t, 1)[0])}
	// JSON is YAML.
	config, err := json.Marshal(map[string]any{
		"global":         map[string]any{"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
		"rule_files":     rules,
		"scrape_configs": []any{map[string]any{"job_name": "larboard", "static_configs": []any{map[string]any{"targets": targets}}}},
	})
	file := filepath.Join(p.dir, "prometheus.yaml")
	if err == nil {
		err = os.WriteFile(file, config, 0o600)
	}
	if err == nil {
		p.process, err = startProcess(binary, filepath.Join(p.dir, "log"), "--config.file="+file,
			"--storage.tsdb.path="+filepath.Join(p.dir, "data"), "--web.listen-address="+p.Address, "--log.level=warn", "--enable-feature=exemplar-storage")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.finish)
	for late := time.Now().Add(startTime); ; time.Sleep(20 * time.Millisecond) {
		resp, err := http.Get("http://" + p.Address + "/-/ready")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return p
			}
		}
		select {
		case <-p.process.exited:
			t.Fatalf("prometheus ended at its start: %v\n%s", p.process.err, p.log())
		default:
		}
		if time.Now().After(late) {
			t.Fatalf("prometheus is not ready within %v: %v\n%s", startTime, err, p.log())
		}
	}
}

// Query evaluates an expression now.
func (p *PrometheusServer) Query(expression string) ([]Sample, error) {
	client := http.Client{Timeout: 30 * time.Second}
	resp, err := client.PostForm("http://"+p.Address+"/api/v1/query", url.Values{"query": {expression}})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var answer struct {
		Status, Error string
		Data          struct {
			ResultType string
			Result     json.RawMessage
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, err
	}
	if answer.Status != "success" {
		return nil, fmt.Errorf("prometheus: %s: %s", expression, answer.Error)
	}
	if answer.Data.ResultType != "vector" {
		return nil, fmt.Errorf("prometheus: %s is a %s", expression, answer.Data.ResultType)
	}
	var series []struct {
		Metric map[string]string
		Value  [2]any
	}
	if err := json.Unmarshal(answer.Data.Result, &series); err != nil {
		return nil, err
	}
	var all []Sample
	for _, s := range series {
		all = append(all, Sample{Labels: s.Metric, Value: fmt.Sprint(s.Value[1])})
	}
	return all, nil
}

// Exemplars are the labels of the exemplars that it has kept of what an expression selects.
func (p *PrometheusServer) Exemplars(expression string) (all []map[string]string, err error) {
	client := http.Client{Timeout: 30 * time.Second}
	resp, err := client.PostForm("http://"+p.Address+"/api/v1/query_exemplars", url.Values{
		"query": {expression}, "start": {"0"}, "end": {fmt.Sprint(time.Now().Add(time.Hour).Unix())}})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var answer struct {
		Status, Error string
		Data          []struct {
			Exemplars []struct{ Labels map[string]string }
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, err
	}
	if answer.Status != "success" {
		return nil, fmt.Errorf("prometheus: %s: %s", expression, answer.Error)
	}
	for _, series := range answer.Data {
		for _, e := range series.Exemplars {
			all = append(all, e.Labels)
		}
	}
	return all, nil
}

func (p *PrometheusServer) log() string {
	data, _ := os.ReadFile(filepath.Join(p.dir, "log"))
	return tail(strings.TrimSpace(string(data)), 20)
}

// finish is the end of the test.
func (p *PrometheusServer) finish() {
	p.process.stop()
	if p.t.Failed() {
		p.t.Logf("last lines of Prometheus:\n%s", p.log())
	}
}
