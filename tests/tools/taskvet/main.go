// Command taskvet checks the rules for code that runs on the engine's tasks, where
// one goroutine that blocks stops a whole loop: run it as
// go vet -vettool=bin/taskvet PACKAGES. It must not know more of the project than
// the names of the engine's parking calls and of the packages that run on tasks.
package main

import "golang.org/x/tools/go/analysis/unitchecker"

func main() { unitchecker.Main(newAnalyzer()) }
