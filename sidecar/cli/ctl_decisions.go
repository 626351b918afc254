package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/admin"
)

// decisionsWanted is what the flags ask for.
type decisionsWanted struct {
	reason, service string
	limit           int
	follow, json    bool
}

func newCtlDecisions() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "decisions",
		Short: "Show the last requests that failed, were denied or retried, and why",
		Long: `A running proxy remembers the last exchanges that did not simply succeed: those that
failed, were denied or limited, or needed more than one attempt, and connections that
it refused. Decisions shows them, the latest last, each with its attempts: when each
began, counted from the request, the endpoint, what came of it and how long it took.`,
		Example: `  larboard ctl decisions
  larboard ctl decisions --service api --follow
  larboard ctl decisions --reason rate_limited --limit 5
  larboard ctl decisions --admin unix:///run/larboard/admin.sock --output json`,
		Args: cobra.NoArgs,
	}
	w := decisionsWanted{}
	address, output := adminFlag(cmd), outputFlag(cmd, "text", "json")
	cmd.Flags().StringVar(&w.reason, "reason", "", "only those for this `CODE`; none: those that an endpoint answered in the end")
	cmd.Flags().StringVar(&w.service, "service", "", "only those of the service with this `NAME`")
	cmd.Flags().IntVar(&w.limit, "limit", 20, "how many to show at most")
	cmd.Flags().BoolVarP(&w.follow, "follow", "f", false, "go on with those to come")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := output.valid(); err != nil {
			return err
		}
		if w.json = output.value == "json"; w.limit < 1 {
			return &ExitError{Code: exitUsage, Err: fmt.Errorf("--limit %d is less than 1", w.limit)}
		}
		if _, known := policy.ReasonCalled(w.reason); w.reason != "" && !known {
			return unknownReason(w.reason)
		}
		client, err := newAdminClient(*address)
		if err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		return w.show(ctx, client, cmd.OutOrStdout())
	}
	return cmd
}

// followEvery is how often a proxy is asked for what is new.
const followEvery = 500 * time.Millisecond

// show prints what is there and, where it is to follow, what comes until ctx ends.
func (w *decisionsWanted) show(ctx context.Context, client *adminClient, out io.Writer) error {
	list, err := w.ask(ctx, client, 0)
	if err != nil || !w.follow {
		if err == nil {
			err = w.write(out, list)
		}
		return err
	}
	after := uint64(0)
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		for _, d := range slices.Backward(list) {
			after = max(after, d.ID)
			if err := w.writeOne(out, &d); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if list, err = w.ask(ctx, client, after); ctx.Err() != nil {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// followed is how many are asked for at a time once the first are shown: all that there
// are.
const followed = 1 << 20

func (w *decisionsWanted) ask(ctx context.Context, client *adminClient, after uint64) ([]admin.DecisionView, error) {
	q := url.Values{"limit": {strconv.Itoa(w.limit)}}
	if after > 0 {
		q.Set("after", strconv.FormatUint(after, 10))
		q.Set("limit", strconv.Itoa(followed))
	}
	if w.reason != "" {
		q.Set("reason", w.reason)
	}
	if w.service != "" {
		q.Set("service", w.service)
	}
	var answer struct{ Decisions []admin.DecisionView }
	err := client.get(ctx, "/api/v1/decisions", q, &answer)
	if failed, ok := errors.AsType[*answerError](err); ok && failed.status == http.StatusNotFound {
		return nil, fmt.Errorf("the proxy at %s keeps no decisions: it has decisions: 0, or is of an older version", client.address)
	}
	return answer.Decisions, err
}

// write prints a list that has the latest first: as text the latest last, as a log has it.
func (w *decisionsWanted) write(out io.Writer, list []admin.DecisionView) error {
	if list == nil {
		list = []admin.DecisionView{} // [] rather than null
	}
	if w.json {
		return writeJSON(out, list)
	}
	if len(list) == 0 {
		which := ""
		if w.reason != "" || w.service != "" {
			which = " of these"
		}
		_, err := fmt.Fprintf(out, "no decisions%s: nothing has failed, was denied or retried\n", which)
		return err
	}
	for _, d := range slices.Backward(list) {
		if err := w.writeOne(out, &d); err != nil {
			return err
		}
	}
	return nil
}

// writeOne prints one: as JSON on a line of its own.
func (w *decisionsWanted) writeOne(out io.Writer, d *admin.DecisionView) error {
	text := describe(d)
	if w.json {
		line, err := json.Marshal(d)
		if err != nil {
			return err
		}
		text = string(line) + "\n"
	}
	_, err := io.WriteString(out, text)
	return err
}

// describe is a decision in a line, and a line for each attempt.
func describe(d *admin.DecisionView) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s", d.Time.Format("2006-01-02T15:04:05.000Z07:00"), verdict(d.Reason, d.Status, d.GRPCStatus))
	switch {
	case d.GRPCStatus != "":
		fmt.Fprintf(&b, "  %s", d.GRPCStatus)
	case d.Status != 0:
		fmt.Fprintf(&b, "  %d", d.Status)
	}
	fmt.Fprintf(&b, "  %s", printable(subject(d)))
	if d.Kind != "connection" {
		fmt.Fprintf(&b, "  %.3fms", d.DurationMS)
	}
	if d.PeerID != "" {
		fmt.Fprintf(&b, "  by %s", printable(d.PeerID))
	} else if d.Client != "" {
		fmt.Fprintf(&b, "  by %s", printable(d.Client))
	}
	if d.TraceID != "" {
		fmt.Fprintf(&b, "  trace %s", printable(d.TraceID))
	}
	if d.Phase != "" {
		fmt.Fprintf(&b, "\n    %s, %s", d.Phase, d.Side)
		if d.Error != "" {
			fmt.Fprintf(&b, ": %s", printable(d.Error))
		}
	}
	b.WriteByte('\n')
	for i := range d.Tries {
		describeTry(&b, &d.Tries[i])
	}
	return b.String()
}

// verdict is the reason. What came to its end without one was answered by the endpoint, which
// is no success by itself.
func verdict(reason string, status int, grpc string) string {
	switch {
	case reason != policy.None.String():
		return printable(reason)
	case status >= 500, grpc != "" && grpc != "OK":
		return "answered"
	}
	return "ok"
}

// subject says what it was about.
func subject(d *admin.DecisionView) string {
	at := d.Listener
	if d.Method != "" {
		at += " " + d.Method + " " + d.Authority + d.Path
	} else if d.Kind == "connection" {
		at += " connection"
	}
	if d.Service != "" {
		at += " -> " + d.Service
	}
	return at
}

func describeTry(b *strings.Builder, t *admin.TryView) {
	fmt.Fprintf(b, "    +%.3fms  %s  %s", t.StartMS, printable(t.Endpoint), verdict(t.Reason, t.Status, t.GRPCStatus))
	if t.Phase != "" {
		fmt.Fprintf(b, " (%s)", t.Phase)
	}
	if t.Status != 0 {
		fmt.Fprintf(b, "  %d", t.Status)
	}
	fmt.Fprintf(b, "  %.3fms\n", t.DurationMS)
}

// printable replaces what would upset a terminal: clients choose hosts and paths.
func printable(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return s
	}
	quoted := strconv.QuoteToGraphic(s)
	return quoted[1 : len(quoted)-1]
}
