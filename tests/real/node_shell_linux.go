package real

import (
	"fmt"
	"os"
	"path/filepath"
)

// Shell runs commands with bash on the node, in a directory, as its administrator would: kubectl
// and spire-server know where to go. It stops at the first that fails.
func (n *Node) Shell(dir, commands string) Ran {
	n.t.Helper()
	bin := n.path("shared/bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		n.t.Fatal(err)
	}
	for name, text := range map[string]string{
		"kubectl":      fmt.Sprintf("exec %s --kubeconfig=%s --cache-dir=%s \"$@\"", n.tools["kubectl"], n.files.Config[KubernetesAdmin], n.path("shared/kubectl")),
		"spire-server": fmt.Sprintf("exec %s \"$1\" \"$2\" -socketPath=/run/spire/server.sock \"${@:3}\"", n.tools["spire-server"]),
	} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/bash\n"+text+"\n"), 0o755); err != nil {
			n.t.Fatal(err)
		}
	}
	return n.try(nodePatience, Installed(n.t, "bash"), "-ec", fmt.Sprintf("cd %s; export PATH=%s:$PATH\n%s", dir, bin, commands))
}
