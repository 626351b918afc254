package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/larboard-proxy/larboard/injector/manifest"
)

// standardInput is what problems in it are said of.
const standardInput = "standard input"

// read returns all files, those of directories in the order of their names.
func (i *injection) read() (inputs []manifest.Input, err error) {
	for _, name := range i.files {
		if name == "-" {
			data, err := io.ReadAll(i.stdin)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", standardInput, err)
			}
			inputs = append(inputs, manifest.Input{Name: standardInput, Data: data})
			continue
		}
		names := []string{name}
		info, err := os.Stat(name)
		if err == nil && info.IsDir() {
			names, err = manifestsIn(name)
		}
		if err != nil {
			return nil, fileError(name, err)
		}
		for _, one := range names {
			data, err := os.ReadFile(one)
			if err != nil {
				return nil, fileError(one, err)
			}
			inputs = append(inputs, manifest.Input{Name: one, Data: data})
		}
	}
	return inputs, nil
}

func fileError(name string, err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return fmt.Errorf("%s: cannot be read: %w", name, err)
}

// manifestsIn are the files of a directory, without those below it.
func manifestsIn(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if ending := filepath.Ext(e.Name()); !e.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json", ".hcl"}, ending) {
			names = append(names, filepath.Join(dir, e.Name()))
		}
	}
	if len(names) == 0 {
		return nil, errors.New("holds no file that ends in .yaml, .yml, .json or .hcl")
	}
	return names, nil
}

// fits reports whether the outputs can go where they are to.
func (i *injection) fits(outputs []manifest.Output) error {
	if !i.diff && !i.inPlace && i.toDirectory() {
		return i.eachItsOwn(outputs)
	}
	if i.diff || i.inPlace || len(outputs) < 2 {
		return nil
	}
	for _, o := range outputs {
		if o.Kind != manifest.Kubernetes && o.Kind != "" {
			return usage(fmt.Errorf("%s is no Kubernetes manifest, so that it does not go together with others: use --in-place, or --to with a directory", o.Name))
		}
	}
	return nil
}

// eachItsOwn reports whether two files would become one in the directory.
func (i *injection) eachItsOwn(outputs []manifest.Output) error {
	from := map[string]string{}
	for _, o := range outputs {
		name := nameIn(o)
		if first, taken := from[name]; taken {
			return usage(fmt.Errorf("%s and %s would both be %s: call inject for each, with a directory of its own", first, o.Name, filepath.Join(i.to, name)))
		}
		from[name] = o.Name
	}
	return nil
}

// nameIn is an output's name in a directory.
func nameIn(o manifest.Output) string {
	if o.Name == standardInput {
		return "stdin.yaml"
	}
	return filepath.Base(o.Name)
}

// toDirectory reports whether --to names a directory, which may be one to make.
func (i *injection) toDirectory() bool {
	info, err := os.Stat(i.to)
	return i.to != "" && (strings.HasSuffix(i.to, "/") || err == nil && info.IsDir())
}

// write puts the outputs where they are to go.
func (i *injection) write(outputs []manifest.Output) error {
	switch {
	case i.inPlace:
		for _, o := range outputs {
			if o.Changed {
				if err := replaceFile(o.Name, o.Data); err != nil {
					return err
				}
			}
		}
		return nil
	case i.toDirectory():
		if err := os.MkdirAll(i.to, 0o755); err != nil {
			return err
		}
		for _, o := range outputs {
			if err := replaceFile(filepath.Join(i.to, nameIn(o)), o.Data); err != nil {
				return err
			}
		}
		return nil
	case i.to != "":
		return replaceFile(i.to, joined(outputs))
	}
	_, err := i.stdout.Write(joined(outputs))
	return err
}

// joined is all outputs as one stream of documents.
func joined(outputs []manifest.Output) []byte {
	var b bytes.Buffer
	for n, o := range outputs {
		if n > 0 && b.Len() > 0 {
			if !bytes.HasSuffix(b.Bytes(), []byte("\n")) {
				b.WriteByte('\n')
			}
			if !bytes.HasPrefix(o.Data, []byte("---")) {
				b.WriteString("---\n")
			}
		}
		b.Write(o.Data)
	}
	return b.Bytes()
}

// replaceFile writes a file in one step, with the mode of the one that is there.
func replaceFile(name string, data []byte) error {
	mode := os.FileMode(0o644)
	if real, err := filepath.EvalSymlinks(name); err == nil {
		name = real
	}
	if info, err := os.Stat(name); err == nil {
		mode = info.Mode().Perm()
	}
	half, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(half.Name())
	_, err = half.Write(data)
	err = errors.Join(err, half.Chmod(mode), half.Close())
	if err == nil {
		err = os.Rename(half.Name(), name)
	}
	return err
}
