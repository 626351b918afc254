package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/larboard-proxy/larboard/discovery/consul"
)

// cleanFlags are those of clean.
type cleanFlags struct {
	address, tokenFile, datacenter, namespace, partition string
	ca, cert, key, serverName                            string
	criticalFor, every                                   time.Duration
	maxShare                                             float64
	once, dryRun                                         bool
}

func newClean() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "clean",
		Short: "Take away from Consul what proxies have left behind that died",
		Long: `Clean removes instances from Consul that Larboard has registered (by their metadata
"larboard") and of whose proxies nothing has been heard for a while: they were killed, or
their host is gone. It removes them through the agent that holds them or, where there
is none, from the servers' catalog. What is not marked, what is in maintenance and what
merely fails its checks while its proxy lives stays.

Consul does not tell for how long something has been silent, so that clean watches for
--critical-for first, with --once too. Where more than a share of all proxies is silent it
removes nothing and says so: then Consul or the network was down, rather than they.

The exit code is 0 when all was done, 1 when something could not be or was held back, and 2
for wrong options.`,
		Example: `  larboard clean --consul 127.0.0.1:8500 --once --dry-run
  larboard clean --consul https://consul.example:8501 --token-file token --every 1m
  larboard clean --consul 127.0.0.1:8500 --once --critical-for 1h --output json`,
		Args: noArguments,
	}
	var f cleanFlags
	flags := cmd.Flags()
	flags.StringVar(&f.address, "consul", "127.0.0.1:8500", "`ADDRESS` of a Consul agent or server: host:port, http://, https:// or unix://")
	flags.StringVar(&f.tokenFile, "token-file", "", "`FILE` with the ACL token")
	flags.StringVar(&f.datacenter, "datacenter", "", "`NAME` of the datacenter; the agent's own otherwise")
	flags.StringVar(&f.namespace, "namespace", "", "`NAME` of the namespace")
	flags.StringVar(&f.partition, "partition", "", "`NAME` of the partition")
	flags.StringVar(&f.ca, "ca", "", "`FILE` with the authority for https")
	flags.StringVar(&f.cert, "cert", "", "`FILE` with our certificate for https")
	flags.StringVar(&f.key, "key", "", "`FILE` with its key")
	flags.StringVar(&f.serverName, "server-name", "", "`NAME` that Consul's certificate has")
	flags.DurationVar(&f.criticalFor, "critical-for", 10*time.Minute, "how long an instance must have been silent")
	flags.DurationVar(&f.every, "every", time.Minute, "look so often, until interrupted")
	flags.BoolVar(&f.once, "once", false, "watch for --critical-for, remove what was silent all the time, and end")
	flags.Float64Var(&f.maxShare, "max-share", 0.3, "the most that is removed at once, as a share of all proxies; one proxy always may be")
	flags.BoolVar(&f.dryRun, "dry-run", false, "only say what would be removed")
	output := outputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		err := output.valid()
		if err == nil {
			err = f.check(cmd.Flags().Changed("every"))
		}
		if err != nil {
			return err
		}
		return f.run(cmd, output.value == "json")
	}
	return cmd
}

func (f *cleanFlags) check(every bool) error {
	var err error
	switch {
	case f.once && every:
		err = errors.New("clean: --once and --every: one of the two")
	case f.every < time.Second:
		err = fmt.Errorf("clean: --every %v is less than 1s", f.every)
	case f.criticalFor < 0:
		err = fmt.Errorf("clean: --critical-for %v is negative", f.criticalFor)
	case f.maxShare < 0 || f.maxShare > 1:
		err = fmt.Errorf("clean: --max-share %v is not between 0 and 1, such as 0.3", f.maxShare)
	case (f.cert == "") != (f.key == ""):
		err = errors.New("clean: --cert and --key belong together")
	}
	if err != nil {
		return &ExitError{Code: exitUsage, Err: err}
	}
	return nil
}

func (f *cleanFlags) run(cmd *cobra.Command, asJSON bool) error {
	client, err := consul.New(consul.Options{
		Address: f.address, TokenFile: f.tokenFile, Datacenter: f.datacenter, Namespace: f.namespace, Partition: f.partition,
		TLS: consul.TLS{CA: f.ca, Cert: f.cert, Key: f.key, ServerName: f.serverName},
	})
	if err != nil {
		return &ExitError{Code: exitUsage, Err: fmt.Errorf("clean: %w", err)}
	}
	defer client.Close()
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	c := &cleaning{cleanFlags: f, out: cmd.OutOrStdout(), notes: cmd.ErrOrStderr(), asJSON: asJSON,
		cleaner: client.Cleaner(consul.CleanOptions{CriticalFor: f.criticalFor, MaxShare: f.maxShare, DryRun: f.dryRun})}
	if f.once {
		return c.once(ctx)
	}
	return c.forever(ctx)
}

// cleaning is one run of clean.
type cleaning struct {
	*cleanFlags
	cleaner    *consul.Cleaner
	out, notes io.Writer
	asJSON     bool
	held       string // as last said
	planned    map[string]bool
}

// forever sweeps until ctx ends. Consul's absence is a note.
func (c *cleaning) forever(ctx context.Context) error {
	next := time.NewTicker(c.every)
	defer next.Stop()
	for {
		s, err := c.cleaner.Sweep(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			fmt.Fprintf(c.notes, "larboard: clean: %v; counting anew\n", err)
		} else if err := c.say(s, false); err != nil {
			return err
		}
		select {
		case <-next.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// once sweeps until what is silent at the beginning has been so for long enough, or nothing is.
func (c *cleaning) once(ctx context.Context) error {
	pause := min(max(c.criticalFor/10, 100*time.Millisecond), 5*time.Second)
	// Where Consul goes away in between, the silences begin anew, but not for ever.
	begun, last := time.Now(), time.Now().Add(2*c.criticalFor+time.Minute)
	for first := true; ; first = false {
		s, err := c.cleaner.Sweep(ctx)
		if ctx.Err() != nil {
			return errors.New("clean: interrupted")
		}
		now := time.Now()
		switch {
		case err != nil && (first || now.After(last)):
			return fmt.Errorf("clean: %w", err)
		case err != nil:
			begun = now
		case s.Silent == 0 || now.Sub(begun) > c.criticalFor:
			return c.end(s)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// end says what came of a single run.
func (c *cleaning) end(s consul.Swept) error {
	if err := c.say(s, true); err != nil {
		return err
	}
	failed := s.Held != ""
	for _, d := range s.Due {
		failed = failed || d.Error != ""
	}
	if failed {
		return &ExitError{Code: exitFailed}
	}
	return nil
}

// say writes what a sweep did, and a sweep without deeds only at the end.
func (c *cleaning) say(s consul.Swept, always bool) error {
	news := len(s.Due) > 0 && (!c.dryRun || c.unplanned(s.Due)) && s.Held == "" || s.Held != c.held
	c.held = s.Held
	if !news && !always {
		return nil
	}
	if c.asJSON {
		return json.NewEncoder(c.out).Encode(s)
	}
	if s.Hidden {
		fmt.Fprintln(c.out, "clean: the token does not show everything: it needs service:read and node:read")
	}
	if s.Held != "" {
		fmt.Fprintf(c.out, "clean: nothing is removed: %s (--max-share)\n", s.Held)
		return nil
	}
	for _, d := range s.Due {
		c.line(d)
	}
	if always {
		fmt.Fprintf(c.out, "clean: %d proxies of ours, %d instances silent\n", s.Proxies, s.Silent)
	}
	return nil
}

func (c *cleaning) line(d consul.Dead) {
	silent := time.Duration(d.Seconds * float64(time.Second)).Round(time.Second)
	about := fmt.Sprintf("%s of %s on the node %s (%s, seen for %v)", d.ID, d.Service, d.Node, d.Why, silent)
	switch {
	case d.Error != "":
		fmt.Fprintf(c.out, "clean: not removed: %s: %s\n", about, d.Error)
	case d.Removed:
		fmt.Fprintf(c.out, "clean: removed through the %s: %s\n", d.Through, about)
	default:
		fmt.Fprintf(c.out, "clean: would be removed: %s\n", about)
	}
}

// unplanned reports whether a dry run has not named one of them before.
func (c *cleaning) unplanned(due []consul.Dead) (news bool) {
	seen := map[string]bool{}
	for _, d := range due {
		seen[d.Node+" "+d.ID] = true
		news = news || !c.planned[d.Node+" "+d.ID]
	}
	c.planned = seen
	return news
}
