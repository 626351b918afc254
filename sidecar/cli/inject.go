package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/aymanbagabas/go-udiff"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/larboard-proxy/larboard/injector"
	"github.com/larboard-proxy/larboard/injector/manifest"
	"github.com/larboard-proxy/larboard/sidecar/config"
)

// injection is `larboard inject` as it was called.
type injection struct {
	files     []string
	kind      string
	namespace string
	settings  string
	image     string
	upstreams []string
	labelled  bool
	uninject  bool
	diff      bool
	inPlace   bool
	to        string
	output    *outputChoice

	stdin          io.Reader
	stdout, stderr io.Writer
}

func newInject() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inject",
		Short: "Put workloads into the mesh in manifests, docker-compose files and service definitions",
		Long: `Inject reads files and adds what runs a proxy beside each workload: to Kubernetes
manifests (Pods and all kinds that make them), to docker-compose files (services with a
label larboard.service or larboard.port), and to service definitions of Consul, in HCL
or JSON. It tells by their content what they are. Comments, order, quotes and all else
stays as it is.

The result goes to standard output, a line for each workload to standard error. Where
anything is wrong nothing is written. --diff shows what would change, and then the
exit code is 1 where something would. --uninject takes away what was injected.

The exit code is 2 for files that cannot be read or workloads that cannot be put into
the mesh.`,
		Example: `  larboard inject -f deployment.yaml | kubectl apply -f -
  larboard inject -f manifests/ --in-place
  larboard inject -f docker-compose.yaml --to meshed.yaml
  larboard inject -f web.hcl --upstream stock:9191 --diff
  kubectl get deployment web -o yaml | larboard inject --uninject | kubectl apply -f -`,
		Args: noFileArguments,
	}
	i := &injection{}
	flags := cmd.Flags()
	flags.StringArrayVarP(&i.files, "file", "f", nil, "`FILE` or directory to read, - for standard input; may be given several times")
	flags.StringVar(&i.kind, "kind", "", "what the files are: kubernetes, compose or consul (default: told by their content)")
	flags.StringVarP(&i.namespace, "namespace", "n", "", "the `NAMESPACE` of manifests that name none")
	flags.StringVar(&i.settings, "settings", "", "`FILE` with the injector's settings, for manifests")
	flags.BoolVar(&i.labelled, "labelled", false, "leave out manifests' pods that do not ask for it, and whose namespace does not")
	flags.StringVar(&i.image, "image", "", "the proxy's `IMAGE`")
	flags.StringArrayVar(&i.upstreams, "upstream", nil, "a service to call, as `NAME:PORT[/PROTOCOL]`, for service definitions; may be given several times")
	flags.BoolVar(&i.uninject, "uninject", false, "take away what was injected")
	flags.BoolVar(&i.diff, "diff", false, "show what would change")
	flags.BoolVarP(&i.inPlace, "in-place", "i", false, "write each file back")
	flags.StringVar(&i.to, "to", "", "write to this `FILE`, or into this directory")
	i.output = outputFlag(cmd, "text", "json")
	flags.Lookup("output").Usage = "how to write the summary: text or json"
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		i.stdin, i.stdout, i.stderr = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
		return i.run()
	}
	return cmd
}

func noFileArguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unexpected argument %q; files are given with -f", args[0])
	}
	return nil
}

func (i *injection) run() error {
	if err := i.valid(); err != nil {
		return err
	}
	inputs, err := i.read()
	if err != nil {
		return &ExitError{Code: exitUsage, Err: err}
	}
	options, problems := i.options()
	var outputs []manifest.Output
	if len(problems) == 0 {
		outputs, problems = manifest.Inject(inputs, options)
	}
	if len(problems) > 0 {
		writeProblems(i.stderr, problems)
		return &ExitError{Code: exitUsage}
	}
	if err := i.fits(outputs); err != nil {
		return err
	}
	if err := i.summarise(outputs); err != nil {
		return err
	}
	if i.diff {
		return i.show(inputs, outputs)
	}
	return i.write(outputs)
}

func (i *injection) valid() error {
	kinds := []string{""}
	for _, k := range manifest.Kinds() {
		kinds = append(kinds, string(k))
	}
	switch {
	case !slices.Contains(kinds, i.kind):
		return usage(fmt.Errorf("--kind %q is none of %s", i.kind, strings.Join(kinds[1:], ", ")))
	case i.inPlace && i.to != "" || i.inPlace && i.diff || i.diff && i.to != "":
		return usage(fmt.Errorf("--in-place, --to and --diff exclude each other"))
	}
	if len(i.files) == 0 {
		if f, ok := i.stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			return usage(fmt.Errorf("no file: give some with -f, or send one to standard input"))
		}
		i.files = []string{"-"}
	}
	if i.inPlace && slices.Contains(i.files, "-") {
		return usage(fmt.Errorf("--in-place needs files: standard input has no place"))
	}
	return i.output.valid()
}

// options are those of package manifest; problems are of the file with settings.
func (i *injection) options() (manifest.Options, config.Problems) {
	s := injector.DefaultSettings()
	if i.settings != "" {
		data, problems := readFile(i.settings)
		if problems != nil {
			return manifest.Options{}, problems
		}
		var err error
		if s, err = injector.LoadSettings(i.settings, data); err != nil {
			if !errors.As(err, &problems) {
				problems = config.Problems{{File: i.settings, Message: err.Error()}}
			}
			return manifest.Options{}, problems
		}
	}
	s.Version = imageVersion()
	if !i.labelled {
		s.Inject = injector.InjectAll // whoever names a file means what it holds
	}
	if i.image != "" {
		s.Image = i.image
	}
	return manifest.Options{
		Kind: manifest.Kind(i.kind), Uninject: i.uninject, Namespace: i.namespace, Settings: s, Upstreams: i.upstreams,
		Image: cmp.Or(i.image, "${LARBOARD_IMAGE:-larboard/larboard:"+s.Version+"}"),
	}, nil
}

// imageVersion is the tag of the image that goes with this binary.
func imageVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && strings.HasPrefix(info.Main.Version, "v") && !strings.ContainsAny(info.Main.Version, "+-") {
		return strings.TrimPrefix(info.Main.Version, "v")
	}
	return "dev"
}

// show prints the difference of each file.
func (i *injection) show(inputs []manifest.Input, outputs []manifest.Output) error {
	changed := false
	for n, o := range outputs {
		if !o.Changed {
			continue
		}
		changed = true
		was := string(inputs[n].Data)
		text, err := udiff.ToUnified(o.Name, o.Name, was, udiff.Lines(was, string(o.Data)), udiff.DefaultContextLines)
		if err != nil {
			return err
		}
		if coloured(i.stdout) {
			text = paintDiff(text)
		}
		if _, err := io.WriteString(i.stdout, text); err != nil {
			return err
		}
	}
	if changed {
		return &ExitError{Code: exitFailed}
	}
	return nil
}

func paintDiff(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		colour := ""
		switch {
		case strings.HasPrefix(line, "---"), strings.HasPrefix(line, "+++"):
			colour = bold
		case strings.HasPrefix(line, "+"):
			colour = green
		case strings.HasPrefix(line, "-"):
			colour = red
		}
		if colour != "" {
			line = colour + strings.TrimSuffix(line, "\n") + normal + "\n"
		}
		b.WriteString(line)
	}
	return b.String()
}

// summarise says what becomes of each workload.
func (i *injection) summarise(outputs []manifest.Output) error {
	if i.output.value == "json" {
		e := json.NewEncoder(i.stderr)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(map[string]any{"files": outputs})
	}
	for _, o := range outputs {
		for _, w := range o.Workloads {
			if _, err := fmt.Fprintf(i.stderr, "%s:%d: %s\n", o.Name, w.Line, workloadLine(w)); err != nil {
				return err
			}
			for _, warning := range w.Warnings {
				fmt.Fprintf(i.stderr, "%s:%d: warning: %s\n", o.Name, w.Line, warning)
			}
		}
	}
	return nil
}

func workloadLine(w manifest.Workload) string {
	name := w.Name
	if w.Namespace != "" {
		name = w.Namespace + "/" + name
	}
	line := fmt.Sprintf("%s %s: %s", w.Kind, name, w.Action)
	if w.Reason != "" {
		line += ": " + w.Reason
	}
	if w.Run != "" {
		line += "; its proxy: " + w.Run
	}
	return line
}
