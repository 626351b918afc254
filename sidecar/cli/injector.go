package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/larboard-proxy/larboard/injector"
	"github.com/larboard-proxy/larboard/injector/webhook"
	"github.com/larboard-proxy/larboard/sidecar/config"
)

func newInjector() *cobra.Command {
	var o injectorFlags
	cmd := &cobra.Command{
		Use:   "injector",
		Short: "Put new pods of Kubernetes into the mesh: the admission webhook",
		Long: `Injector answers Kubernetes' API server, which asks it about each new pod in the
namespaces that a MutatingWebhookConfiguration selects, and puts those pods into the
mesh. It is what deploy/kubernetes and the Helm chart install.

The API server trusts its certificate without further means: the injector has an authority
of its own, which all replicas share in a Secret, puts it into the webhook configuration,
and replaces both long before they expire. With --cert and --key it serves the certificate
in these files instead (of cert-manager, for example), reads them again when they change,
and leaves the webhook configuration alone.

SIGTERM ends it without a review lost: it is not ready at once, takes no new connections
after --drain, gives those that are open --linger to be used once more or closed by the API
server, and finishes what is under way.`,
		Example: `  larboard injector --settings /etc/larboard/settings.yaml
  larboard injector --settings settings.yaml --kubeconfig ~/.kube/config    outside of Kubernetes
  larboard injector --cert /tls/tls.crt --key /tls/tls.key                  a certificate of cert-manager
  kubectl -n larboard-system port-forward deploy/larboard-injector 9444     then: curl localhost:9444/readyz`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unexpected argument %q; settings are given with --settings", args[0])
			}
			return nil
		},
	}
	o.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return o.run(cmd.ErrOrStderr()) }
	return cmd
}

// injectorFlags are the values of the command's flags.
type injectorFlags struct {
	webhook.Options
	kubeconfig, level, format string
}

func (o *injectorFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.SettingsFile, "settings", "", "settings `FILE`, read again when it changes (default: as an empty file)")
	f.StringVar(&o.Listen, "listen", ":9443", "`ADDRESS` for reviews (HTTPS)")
	f.StringVar(&o.Health, "health", ":9444", "`ADDRESS` for /healthz, /readyz and /metrics (HTTP)")
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "`FILE` that says where Kubernetes is (default: as a pod finds it)")
	f.StringVar(&o.CertFile, "cert", "", "serve the certificate in this `FILE`, which somebody else renews")
	f.StringVar(&o.KeyFile, "key", "", "its key's `FILE`")
	f.StringVar(&o.Namespace, "namespace", "", "`NAME` of the injector's own namespace (default: the pod's, else larboard-system)")
	f.StringVar(&o.Service, "service", "larboard-injector", "`NAME` of the Service by which the API server reaches it")
	f.StringVar(&o.Webhook, "webhook-name", "larboard-injector", "`NAME` of the MutatingWebhookConfiguration")
	f.StringVar(&o.Secret, "secret", "larboard-injector-ca", "`NAME` of the Secret with the authority")
	f.DurationVar(&o.AuthorityLife, "authority-life", 365*24*time.Hour, "how long an authority holds; it is replaced when a third is left")
	f.DurationVar(&o.CertificateLife, "certificate-life", 24*time.Hour, "how long a certificate holds; likewise")
	f.DurationVar(&o.Settle, "settle", time.Minute, "how long a new authority is in the webhook configuration before it is used")
	f.DurationVar(&o.Drain, "drain", 5*time.Second, "how long connections are still accepted after SIGTERM")
	f.DurationVar(&o.Linger, "linger", 30*time.Second, "how long, at most, those without a review are kept open then")
	f.StringVar(&o.level, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&o.format, "log-format", "text", "text or json")
}

func (o *injectorFlags) run(stderr io.Writer) error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.level)); err != nil {
		return usage(fmt.Errorf("--log-level: %q is none of debug, info, warn, error", o.level))
	}
	if o.format != "text" && o.format != config.FormatJSON {
		return usage(fmt.Errorf("--log-format: %q is none of text, json", o.format))
	}
	settings, err := injectorSettings(o.SettingsFile)
	var problems config.Problems
	if errors.As(err, &problems) {
		return refuse(stderr, o.SettingsFile, problems)
	}
	if err != nil {
		return usage(err)
	}
	settings.Version = version
	lines := newLogWriter(stderr)
	defer lines.Close()
	o.Log, o.Settings = newLogger(config.Log{Level: o.level, Format: o.format}, lines), settings
	if o.API, err = webhook.Connect(o.kubeconfig); err != nil {
		return usage(err)
	}
	s, err := webhook.New(o.Options)
	if err != nil {
		return usage(err)
	}
	// A review makes garbage of hundreds of kilobytes on a heap of a few megabytes: collected
	// after each dozen of them, it would cost a sixth of all work and most of the tail.
	debug.SetGCPercent(400)
	return serveInjector(s, o.Log)
}

// usage is an error of flags or of the files that they name.
func usage(err error) error { return &ExitError{Code: exitUsage, Err: err} }

// injectorSettings reads settings; without a file they are those of an empty one.
func injectorSettings(file string) (*injector.Settings, error) {
	if file == "" {
		return injector.LoadSettings("settings", nil)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	return injector.LoadSettings(file, data)
}

// serveInjector runs s until a signal ends it; a second one does so at once.
func serveInjector(s *webhook.Server, log *slog.Logger) error {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	defer signal.Stop(signals)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	for stopping := false; ; {
		select {
		case err := <-done:
			if errors.Is(err, context.Canceled) {
				return errors.New("ended before the last reviews were")
			}
			return err
		case <-signals:
			if stopping {
				log.Warn("second signal: ending at once")
				cancel()
				continue
			}
			stopping = true
			s.Stop()
		}
	}
}
