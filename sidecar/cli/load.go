package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/larboard-proxy/larboard/sidecar/config"
)

// maxRead bounds every file that is read: a device or a log given by mistake
// must not fill the memory. It is more than config.Load takes.
const maxRead = 16 << 20

// loadFile reads a configuration file. That it cannot be read is a problem like
// any other. The configuration is not to be used where there are problems, except
// to look for more; it may be nil then.
func loadFile(name string) (*config.Config, config.Problems) {
	data, problems := readFile(name)
	if problems != nil {
		return nil, problems
	}
	return config.Load(name, data)
}

// environmentPrefix begins the name of a configuration that stands in a variable of the
// environment. A file of such a name is ./env:NAME.
const environmentPrefix = "env:"

func readFile(name string) ([]byte, config.Problems) {
	if variable, ok := strings.CutPrefix(name, environmentPrefix); ok {
		return readVariable(name, variable)
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, config.Problems{{File: name, Message: "cannot be read: " + plain(err)}}
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxRead))
	if err != nil {
		return nil, config.Problems{{File: name, Message: "cannot be read: " + plain(err)}}
	}
	return data, nil
}

// readVariable returns the text of a variable of the environment.
func readVariable(name, variable string) ([]byte, config.Problems) {
	text, set := os.LookupEnv(variable)
	switch {
	case variable == "" || strings.ContainsAny(variable, "/="):
		return nil, config.Problems{{File: name, Message: fmt.Sprintf("%q is no name of an environment variable; write env:NAME", variable)}}
	case !set:
		return nil, config.Problems{{File: name, Message: fmt.Sprintf("the environment variable %s is not set", variable)}}
	}
	return []byte(text), nil
}

// readNamed reads a file that the configuration names.
func readNamed(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %s", name, plain(err))
	}
	if !info.Mode().IsRegular() || info.Size() > maxRead {
		return nil, fmt.Errorf("%s: not a regular file of a sensible size", name)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %s", name, plain(err))
	}
	return data, nil
}

// plain is the reason of an error of the file system, without the operation and
// the name, which the context tells.
func plain(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err.Error()
	}
	return err.Error()
}
