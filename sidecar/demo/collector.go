package demo

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// collector takes spans as Jaeger or any other collector does, by OTLP over HTTP, so that
// the demo can show a trace with nothing installed.
type collector struct {
	addr   string
	server *http.Server

	mu    sync.Mutex
	spans map[string][]span // by trace
}

// span is what the demo shows of one.
type span struct {
	service, trace, id, parent, name string

	client     bool // an attempt; else what was asked of the proxy
	start, end time.Duration
	attributes map[string]string
}

// startCollector returns one that listens. It keeps every trace: it is told of few.
func startCollector() (*collector, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &collector{addr: l.Addr().String(), spans: map[string][]span{}}
	c.server = &http.Server{Handler: c, ReadHeaderTimeout: 5 * time.Second}
	go c.server.Serve(l)
	return c, nil
}

func (c *collector) stop() error { return c.server.Close() }

// ServeHTTP implements http.Handler: POST /v1/traces.
func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 16<<20))
	var spans []span
	if err == nil {
		spans, err = parseExport(body)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range spans {
		c.spans[s.trace] = append(c.spans[s.trace], s)
	}
	w.Header().Set("content-type", "application/x-protobuf") // an empty answer: all were taken
}

// trace returns the spans of one so far.
func (c *collector) trace(id string) []span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]span(nil), c.spans[id]...)
}

// The numbers of fields in opentelemetry/proto: collector/trace/v1, trace/v1, common/v1.
// Generated code for a dozen of them would be the largest part of the demo.
const (
	exportResourceSpans = 1
	resourceSpansOf     = 1
	resourceSpansScopes = 2
	resourceAttributes  = 1
	scopeSpans          = 2
	spanTrace           = 1
	spanID              = 2
	spanParent          = 4
	spanName            = 5
	spanKind            = 6
	spanStart           = 7
	spanEnd             = 8
	spanAttributes      = 9
	pairKey             = 1
	pairValue           = 2
	valueText           = 1
	valueInt            = 3
	kindClient          = 3
)

// parseExport reads the spans out of a request of an exporter.
func parseExport(message []byte) (spans []span, err error) {
	err = eachField(message, func(f field) error {
		if f.number != exportResourceSpans {
			return nil
		}
		service, first := "", len(spans)
		err := eachField(f.bytes, func(f field) error {
			switch f.number {
			case resourceSpansOf:
				named := map[string]string{}
				err := eachField(f.bytes, func(f field) error {
					if f.number == resourceAttributes {
						return addAttribute(named, f.bytes)
					}
					return nil
				})
				service = named["service.name"]
				return err
			case resourceSpansScopes:
				return eachField(f.bytes, func(f field) error {
					if f.number != scopeSpans {
						return nil
					}
					s, err := parseSpan(f.bytes)
					spans = append(spans, s)
					return err
				})
			}
			return nil
		})
		for i := first; i < len(spans); i++ {
			spans[i].service = service
		}
		return err
	})
	return spans, err
}

func parseSpan(message []byte) (s span, err error) {
	s.attributes = map[string]string{}
	err = eachField(message, func(f field) error {
		switch f.number {
		case spanTrace:
			s.trace = fmt.Sprintf("%x", f.bytes)
		case spanID:
			s.id = fmt.Sprintf("%x", f.bytes)
		case spanParent:
			s.parent = fmt.Sprintf("%x", f.bytes)
		case spanName:
			s.name = string(f.bytes)
		case spanKind:
			s.client = f.value == kindClient
		case spanStart:
			s.start = time.Duration(f.value)
		case spanEnd:
			s.end = time.Duration(f.value)
		case spanAttributes:
			return addAttribute(s.attributes, f.bytes)
		}
		return nil
	})
	return s, err
}

// addAttribute adds a pair whose value is a text or a whole number.
func addAttribute(to map[string]string, pair []byte) error {
	key, value := "", ""
	err := eachField(pair, func(f field) error {
		switch f.number {
		case pairKey:
			key = string(f.bytes)
		case pairValue:
			return eachField(f.bytes, func(f field) error {
				switch f.number {
				case valueText:
					value = string(f.bytes)
				case valueInt:
					value = strconv.FormatInt(int64(f.value), 10)
				}
				return nil
			})
		}
		return nil
	})
	to[key] = value
	return err
}

// field is one of a message of protocol buffers: bytes, or a number.
type field struct {
	number uint64
	value  uint64
	bytes  []byte
}

var errProto = errors.New("not a message of protocol buffers")

// eachField calls yield with each field of a message.
func eachField(message []byte, yield func(field) error) error {
	for len(message) > 0 {
		tag, n := binary.Uvarint(message)
		if n <= 0 {
			return errProto
		}
		message = message[n:]
		f := field{number: tag >> 3}
		switch tag & 7 {
		case 0:
			if f.value, n = binary.Uvarint(message); n <= 0 {
				return errProto
			}
		case 1:
			if n = 8; len(message) < n {
				return errProto
			}
			f.value = binary.LittleEndian.Uint64(message)
		case 2:
			size, k := binary.Uvarint(message)
			if k <= 0 || size > uint64(len(message)-k) {
				return errProto
			}
			f.bytes, n = message[k:k+int(size)], k+int(size)
		case 5:
			if n = 4; len(message) < n {
				return errProto
			}
		default:
			return errProto
		}
		message = message[n:]
		if err := yield(f); err != nil {
			return err
		}
	}
	return nil
}
