package trace

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/larboard-proxy/larboard/observability/otlp"
)

// send sends the batch, and tries again within the collector's timeout where it could
// not be reached; what is not taken by then is dropped. false: ctx has ended, and the
// batch is still there. Blocks.
func (t *Tracer) send(ctx context.Context) bool {
	if len(t.batch) == 0 {
		return true
	}
	within, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	err := t.export(within)
	if err != nil && ctx.Err() != nil {
		return false
	}
	if n := uint64(len(t.batch)); err == nil {
		t.exported.Add(n)
	} else {
		t.lost.Add(n)
	}
	clear(t.batch)
	t.batch = t.batch[:0]
	t.note(err)
	return true
}

// export tries until the batch is taken, refused, or ctx has ended. Answers that ask to
// wait are the exporter's own to heed; this is for connections that are refused.
func (t *Tracer) export(ctx context.Context) error {
	for pause := otlp.FirstPause; ; pause = min(2*pause, otlp.MostPause) {
		err := t.exporter.ExportSpans(ctx, t.batch)
		if err == nil || !unreachable(err) {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
}

func unreachable(err error) bool {
	_, ok := errors.AsType[*net.OpError](err)
	return ok
}

// note logs when the collector begins or ends to fail.
func (t *Tracer) note(err error) {
	if err != nil && !t.failing {
		t.logger.Warn("the traces' collector does not take spans; they are dropped", "error", err)
	}
	if err == nil && t.failing {
		_, dropped := t.Counts()
		t.logger.Info("the traces' collector takes spans again", "spans_dropped", dropped)
	}
	t.failing = err != nil
}
