package real

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// JaegerServer is a Jaeger of its own with its traces in memory, on loopback. It takes
// spans by OpenTelemetry's protocol.
type JaegerServer struct {
	GRPC, HTTP string // host:port, where spans are taken
	Query      string // host:port of the query API

	t       testing.TB
	dir     string
	process *process
}

// JaegerSpan is one span as Jaeger tells it.
type JaegerSpan struct {
	TraceID, SpanID, Parent string // in hexadecimal; Parent is empty where there is none
	Service, Name           string
	Tags                    map[string]string
	Events                  []string // their names
	Start, Duration         time.Duration
}

// Jaeger starts Jaeger and returns when it answers. It is stopped at the end of the test.
func Jaeger(t testing.TB) *JaegerServer {
	t.Helper()
	j := &JaegerServer{t: t, dir: shortTempDir(t)}
	binary := Tool(t, "jaeger")
	t.Cleanup(j.finish)
	for try := 1; ; try++ {
		err := j.start(binary)
		if err == nil {
			return j
		}
		if try == 3 {
			t.Fatalf("jaeger: %v\n%s", err, j.log())
		}
	}
}

// start chooses ports, which somebody else may take before Jaeger does.
func (j *JaegerServer) start(binary string) error {
	var ports []string
	for _, p := range freePorts(j.t, 4) {
		ports = append(ports, fmt.Sprintf("127.0.0.1:%d", p))
	}
	j.GRPC, j.HTTP, j.Query = ports[0], ports[1], ports[2]
	type m = map[string]any
	// JSON is YAML.
	config, err := json.Marshal(m{
		"service": m{
			"extensions": []any{"jaeger_storage", "jaeger_query"},
			"pipelines":  m{"traces": m{"receivers": []any{"otlp"}, "exporters": []any{"jaeger_storage_exporter"}}},
			"telemetry":  m{"logs": m{"level": "warn"}, "metrics": m{"level": "none"}},
		},
		"extensions": m{
			"jaeger_storage": m{"backends": m{"memory": m{"memory": m{"max_traces": 100000}}}},
			"jaeger_query":   m{"storage": m{"traces": "memory"}, "http": m{"endpoint": j.Query}, "grpc": m{"endpoint": ports[3]}},
		},
		"receivers": m{"otlp": m{"protocols": m{"grpc": m{"endpoint": j.GRPC}, "http": m{"endpoint": j.HTTP}}}},
		"exporters": m{"jaeger_storage_exporter": m{"trace_storage": "memory"}},
	})
	file := filepath.Join(j.dir, "jaeger.yaml")
	if err == nil {
		err = os.WriteFile(file, config, 0o600)
	}
	if err == nil {
		j.process, err = startProcess(binary, filepath.Join(j.dir, "log"), "--config", file)
	}
	if err != nil {
		return err
	}
	for late := time.Now().Add(startTime); ; time.Sleep(20 * time.Millisecond) {
		if _, err = j.get("/api/services"); err == nil {
			return nil
		}
		select {
		case <-j.process.exited:
			return fmt.Errorf("ended at its start: %w", j.process.err)
		default:
		}
		if time.Now().After(late) {
			j.process.kill()
			return fmt.Errorf("no answer within %v: %w", startTime, err)
		}
	}
}

// Stop ends Jaeger before the test does.
func (j *JaegerServer) Stop() { j.process.stop() }

// Trace returns the spans of a trace that have arrived, in no order; none where there is
// no such trace.
func (j *JaegerServer) Trace(id string) ([]JaegerSpan, error) {
	data, err := j.get("/api/traces/" + id)
	if err != nil || data == nil {
		return nil, err
	}
	var traces []struct {
		Spans []struct {
			TraceID, SpanID, OperationName, ProcessID string
			References                                []struct{ RefType, SpanID string }
			StartTime, Duration                       int64 // in microseconds
			Tags                                      []jaegerTag
			Logs                                      []struct{ Fields []jaegerTag }
		}
		Processes map[string]struct{ ServiceName string }
	}
	if err := json.Unmarshal(data, &traces); err != nil {
		return nil, err
	}
	var all []JaegerSpan
	for _, t := range traces {
		for _, s := range t.Spans {
			span := JaegerSpan{TraceID: s.TraceID, SpanID: s.SpanID, Name: s.OperationName, Service: t.Processes[s.ProcessID].ServiceName,
				Tags: map[string]string{}, Start: time.Duration(s.StartTime) * time.Microsecond, Duration: time.Duration(s.Duration) * time.Microsecond}
			for _, r := range s.References {
				if r.RefType == "CHILD_OF" {
					span.Parent = r.SpanID
				}
			}
			for _, tag := range s.Tags {
				span.Tags[tag.Key] = fmt.Sprint(tag.Value)
			}
			for _, l := range s.Logs {
				for _, f := range l.Fields {
					if f.Key == "event" {
						span.Events = append(span.Events, fmt.Sprint(f.Value))
					}
				}
			}
			all = append(all, span)
		}
	}
	return all, nil
}

type jaegerTag struct {
	Key   string
	Value any
}

// get asks the query API and returns the data of its answer; nil: there is none.
func (j *JaegerServer) get(path string) (json.RawMessage, error) {
	client := http.Client{Timeout: 30 * time.Second}
	resp, err := client.Get("http://" + j.Query + path)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		return nil, nil
	}
	var answer struct{ Data json.RawMessage }
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("jaeger: %s: %s", path, resp.Status)
	}
	err = json.NewDecoder(resp.Body).Decode(&answer)
	return answer.Data, err
}

func (j *JaegerServer) log() string {
	data, _ := os.ReadFile(filepath.Join(j.dir, "log"))
	return tail(strings.TrimSpace(string(data)), 20)
}

// finish is the end of the test.
func (j *JaegerServer) finish() {
	if j.process != nil {
		j.process.stop()
	}
	if j.t.Failed() {
		j.t.Logf("last lines of Jaeger:\n%s", j.log())
	}
}
