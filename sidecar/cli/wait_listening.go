package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/larboard-proxy/larboard/sidecar/config"
)

// askListeners connects to what a configuration listens on, for those who must not wait for the
// proxy's identity: a hook that holds up a pod's other containers holds up SPIRE's agent, too,
// which the kubelet shows no container of the pod until the hook has ended.
func askListeners(stderr io.Writer, file string) (func(context.Context, *adminClient) error, error) {
	if file == "" {
		return nil, &ExitError{Code: exitUsage, Err: errors.New("--listening needs the proxy's configuration; give it with -c")}
	}
	loaded, problems := loadFile(file)
	if len(problems) > 0 {
		return nil, refuse(stderr, file, problems)
	}
	listeners := config.Expand(loaded).Listeners
	return func(ctx context.Context, _ *adminClient) error {
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		for _, l := range listeners {
			for _, address := range l.Address {
				conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
				if err != nil {
					return fmt.Errorf("listener %s: %w", l.Name, err)
				}
				conn.Close()
			}
		}
		return nil
	}, nil
}
