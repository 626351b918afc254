package load

import (
	"bytes"
	"net"
	"net/http"
	"strconv"
	"syscall"
)

// dropIfClosed looks, without waiting, whether the server closed the kept
// connection meanwhile, as a client with a reader on its idle connections
// would have noticed. It also drops one on which unasked bytes arrived; under
// TLS such bytes are left for the record layer to judge.
func (w *worker) dropIfClosed() {
	if w.conn == nil || !w.used {
		return
	}
	if !closedIdle(w.conn, w.run.o.TLS == nil) && w.reader.Buffered() == 0 {
		return
	}
	w.run.count(&w.run.result.ClosedIdle)
	w.close()
}

func closedIdle(conn net.Conn, plain bool) bool {
	if secure, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = secure.NetConn()
	}
	sys, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sys.SyscallConn()
	if err != nil {
		return true
	}
	closed := false
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		closed = err != syscall.EAGAIN && (err != nil || n == 0 || plain)
		return true
	})
	return closed || err != nil
}

// encode writes the request once; every connection sends the same bytes.
func encode(o Options) []byte {
	var b bytes.Buffer
	b.WriteString(o.Method + " " + o.Path + " HTTP/1.1\r\nHost: " + o.Host + "\r\n")
	header := o.Header.Clone()
	if header == nil {
		header = http.Header{}
	}
	if header.Get("User-Agent") == "" {
		header.Set("User-Agent", "larboard-load")
	}
	if o.NewConn {
		header.Set("Connection", "close")
	}
	if o.Body != nil {
		header.Set("Content-Length", strconv.Itoa(len(o.Body)))
	}
	// Write to a bytes.Buffer cannot fail.
	_ = header.Write(&b)
	b.WriteString("\r\n")
	b.Write(o.Body)
	return b.Bytes()
}
