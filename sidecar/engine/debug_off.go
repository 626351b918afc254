//go:build !larboard_debug

package engine

// The checks of the debug build (debug_on.go) cost nothing here.

func checkPark(*Task)                   {}
func checkStart(t *Task)                { t.debugState = debugState{} }
func checkTurn(l *Loop)                 { l.debugState = debugState{} }
func checkCallback(*Loop)               {}
func checkOwner(*Loop)                  {}
func checkRelease(*bufferClass, []byte) {}

// debugState is empty here; assigning it is no code.
type debugState struct{}
