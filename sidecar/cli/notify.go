package cli

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// What systemd is told (sd_notify(3)): a datagram to the socket that NOTIFY_SOCKET names,
// which a unit with Type=notify or Type=notify-reload sets.
const (
	notifyVariable = "NOTIFY_SOCKET"
	notifyReady    = "READY=1\nSTATUS=ready"
	notifyStopping = "STOPPING=1\nSTATUS=draining"
)

// notify tells the service manager, where there is one. What it does not hear is its own
// to notice: it has times for all of this.
func notify(state string) {
	name := os.Getenv(notifyVariable)
	if name == "" {
		return
	}
	// A name that begins with @ is an abstract one, for package net, too.
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = conn.Write([]byte(state))
}

// notifyReloading is to be followed by notifyReady.
func notifyReloading() string {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	return fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", now.Nano()/1000)
}
