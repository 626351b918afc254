package compile

import (
	"fmt"
	"strings"
	"testing"
)

func TestCaptureListeners(t *testing.T) {
	text := "identity: {dev: {}}\nworkload: {service: web, address: 127.0.0.1:8000, listen: 0.0.0.0:20000, allow: [/api]}\nupstreams: [{service: api, captures: 10.0.0.1}]\n"
	for name, c := range map[string]struct{ capture, want string }{
		"none": {"", `
inbound [0.0.0.0:20000] http inbound=true tls=true allow=true connect=false
  default -> local, trust true, https
api [127.0.0.1:1] http inbound=false tls=false allow=false connect=false
  default -> api, trust true, http`},
		"outbound": {"outbound: {unknown: refuse}", `
inbound [0.0.0.0:20000] http inbound=true tls=true allow=true connect=false
  default -> local, trust true, https
api [] http inbound=false tls=false allow=false connect=false
  default -> api, trust true, http
captured-outbound [127.0.0.1:15001 [::1]:15001] tcp inbound=false tls=false allow=false connect=false service=passthrough {false false}`},
		"both": {"outbound: true, inbound: {plain: pass, address: 0.0.0.0:15006}", `
inbound [0.0.0.0:20000] http inbound=true tls=true allow=true connect=false
  default -> local, trust true, https
api [] http inbound=false tls=false allow=false connect=false
  default -> api, trust true, http
captured-outbound [127.0.0.1:15001 [::1]:15001] tcp inbound=false tls=false allow=false connect=false service=passthrough {true false}
captured-inbound [0.0.0.0:15006] tcp inbound=true tls=false allow=false connect=false service=passthrough {true true}
inbound-plain [] http inbound=true tls=false allow=false connect=false
  default -> local, trust false, http`},
	} {
		t.Run(name, func(t *testing.T) {
			file := text + "capture: {" + c.capture + "}\n"
			if c.capture == "" {
				file = strings.Replace(text, "captures: 10.0.0.1", "bind: 127.0.0.1:1", 1)
			}
			out := compiled(t, file, none())
			var got strings.Builder
			for _, l := range out.Snapshot.Listeners {
				got.WriteString("\n" + listener(l))
				if l.Capture != nil {
					fmt.Fprintf(&got, " %v", *l.Capture)
				}
			}
			if got.String() != c.want {
				t.Errorf("got%s\nwant%s", got.String(), c.want)
			}
			if s := out.Services["passthrough"]; (s != nil) != (c.capture != "") {
				t.Errorf("the service passthrough is %v", s)
			}
		})
	}
}
