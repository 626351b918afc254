package proxy

// Tests run on goroutines: nothing is found here.
func waitInTest(ch chan int) { <-ch }
