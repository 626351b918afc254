package proxy

// streamBody passes the answer's body on, its head being written.
func (x *Exchange) streamBody() error {
	server := x.server
	for {
		if !x.up.BodyReady() { // the head is not held back for a body that is slow
			x.sent = true
			if err := server.Flush(); err != nil {
				return err
			}
			if err := x.spliceAnswer(); err != errCopy {
				return err
			}
		}
		x.setUpstreamDeadline(x.endpointSilence())
		p, end, err := x.up.ReadBody()
		if err != nil {
			return x.bodyError(err)
		}
		x.sent = true
		x.answerMoved(end)
		server.WriteWithin(x.clientSilence())
		if err := relay(server, p, end, x.up.Trailers()); err != nil || end {
			return err
		}
	}
}
