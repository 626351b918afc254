package webhook

import (
	"context"
	"errors"
	"time"

	"github.com/larboard-proxy/larboard/injector"
)

const (
	// versionEvery is how often the version is asked for: clusters are upgraded.
	versionEvery = time.Hour
	// versionPause is the wait after a question that nobody has answered.
	versionPause = time.Second
)

// keepVersion asks which version of Kubernetes this is, which decides the form auto, until ctx
// ends. An API server that does not say is taken for a recent one.
func (s *Server) keepVersion(ctx context.Context) {
	for {
		version, err := s.options.API.version(ctx)
		pause := versionEvery
		var answer *apiError
		switch {
		case err == nil || errors.As(err, &answer) && s.version.Load() == nil:
			s.version.Store(&version)
			s.log.Info("version of Kubernetes", "version", version, "error", err)
		case answer == nil:
			pause = versionPause
		}
		if !sleep(ctx, pause) {
			return
		}
	}
}

// version is the API server's, like 1.30; minor versions of some vendors end in a plus.
func (a *API) version(ctx context.Context) (string, error) {
	var answer struct{ Major, Minor string }
	if err := a.call(ctx, "GET", "/version", nil, nil, &answer); err != nil {
		return "", err
	}
	return answer.Major + "." + answer.Minor, nil
}

// current is what holds for a review: the settings, with the version where they leave it out.
func (s *Server) current() *injector.Settings {
	settings, version := s.settings.Load(), s.version.Load()
	if settings.Kubernetes != "" || version == nil {
		return settings
	}
	out := *settings
	out.Kubernetes = *version
	return &out
}
