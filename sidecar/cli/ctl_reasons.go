package cli

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/larboard-proxy/larboard/sidecar/admin"
	"github.com/larboard-proxy/larboard/sidecar/config"
)

func newCtlReasons() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reasons [CODE...]",
		Short: "Print the reasons for which the proxy answers or refuses, and what to do",
		Long: `Each answer that the proxy gives itself, each refusal and each failure has a reason.
Its code stands in the field x-larboard-reason of the answer, in the access log, in
the metrics and in traces. Reasons prints what the codes mean: the HTTP status ("-":
the connection is closed without an answer), the gRPC status, the termination code as
in HAProxy's log, what happened and what to do about it. It asks nobody.`,
		Example: `  larboard ctl reasons
  larboard ctl reasons upstream_reset no_route
  larboard ctl reasons --output json | jq -r '.[] | select(.status == 503).code'`,
		ValidArgs: reasonCodes(),
	}
	output := outputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, codes []string) error {
		if err := output.valid(); err != nil {
			return err
		}
		rows, err := reasonsOf(codes)
		switch {
		case err != nil:
			return err
		case output.value == "json":
			return writeJSON(cmd.OutOrStdout(), rows)
		case len(codes) > 0:
			return explainReasons(cmd.OutOrStdout(), rows)
		}
		return tableOfReasons(cmd.OutOrStdout(), rows)
	}
	return cmd
}

func reasonCodes() (codes []string) {
	for _, r := range admin.Reasons() {
		codes = append(codes, r.Code)
	}
	return codes
}

// reasonsOf returns the rows of codes, or all for none.
func reasonsOf(codes []string) ([]admin.ReasonView, error) {
	all := admin.Reasons()
	if len(codes) == 0 {
		return all, nil
	}
	var rows []admin.ReasonView
	for _, code := range codes {
		i := slices.IndexFunc(all, func(r admin.ReasonView) bool { return r.Code == code })
		if i < 0 {
			return nil, unknownReason(code)
		}
		rows = append(rows, all[i])
	}
	return rows, nil
}

// unknownReason says so, and which one was probably meant.
func unknownReason(code string) error {
	message := fmt.Sprintf("unknown reason %q", code)
	if near := config.Suggest(code, reasonCodes()); near != "" {
		message += fmt.Sprintf("; did you mean %q?", near)
	} else {
		message += "; 'larboard ctl reasons' lists them"
	}
	return &ExitError{Code: exitUsage, Err: fmt.Errorf("%s", message)}
}

func tableOfReasons(w io.Writer, rows []admin.ReasonView) error {
	t := table{head: []string{"CODE", "HTTP", "GRPC", "END", "WHAT HAPPENED", "WHAT TO DO"}, wrap: 2}
	for _, r := range rows {
		t.add(r.Code, httpStatus(r.Status), r.GRPCStatus, r.Termination, r.Sentence, r.Remedy)
	}
	return t.write(w)
}

// explainReasons writes a paragraph for each.
func explainReasons(w io.Writer, rows []admin.ReasonView) error {
	var b strings.Builder
	for i, r := range rows {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s\n  what happened  %s\n  what to do     %s\n  HTTP status    %s\n  gRPC status    %d %s\n  termination    %s\n",
			r.Code, r.Sentence, r.Remedy, httpStatus(r.Status), r.GRPC, r.GRPCStatus, r.Termination)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func httpStatus(status int) string {
	if status == 0 {
		return "-"
	}
	return strconv.Itoa(status)
}
