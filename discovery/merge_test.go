package discovery

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func (s *scripted) named(key, from string) Spec {
	return Spec{Key: key, From: from, New: func() Source { return s }}
}

// send sends endpoints as they are.
func (s *scripted) send(endpoints ...Endpoint) {
	s.updates <- Update{Endpoints: endpoints, At: time.Now(), Index: 7, Via: "one"}
	synctest.Wait()
}

// inMerge is inSet with a service of two sources.
func inMerge(t *testing.T, test func(t *testing.T, s *Set, r *recorder, a, b *scripted)) {
	inSet(t, func(t *testing.T, s *Set, r *recorder) {
		a, b := newScripted(), newScripted()
		s.Apply(map[string][]Spec{"x": {a.named("a", "first"), b.named("b", "second")}})
		synctest.Wait()
		test(t, s, r, a, b)
	})
}

func TestMergePutsSourcesInTheirOrder(t *testing.T) {
	inMerge(t, func(t *testing.T, s *Set, r *recorder, a, b *scripted) {
		b.good("3", "4")
		time.Sleep(time.Second)
		a.good("1", "2")
		time.Sleep(time.Second)
		a.good("1")
		r.want(t, "0s x [3 4]", "1s x [1 2 3 4]", "2s x [1 3 4]")
	})
}

func TestMergeFoldsUpdatesOfSeveralSources(t *testing.T) {
	inMerge(t, func(t *testing.T, s *Set, r *recorder, a, b *scripted) {
		a.good("1")
		b.good("2")
		a.good("1", "3")
		b.good("2", "4")
		time.Sleep(time.Second)
		r.want(t, "0s x [1]", "20ms x [1 3 2 4]")
	})
}

// Of an address that several sources name, the first source's endpoints count, all
// of them; ids mean something within one source only.
func TestMergeTakesTheFirstOfAnAddress(t *testing.T) {
	inMerge(t, func(t *testing.T, s *Set, r *recorder, a, b *scripted) {
		b.send(Endpoint{ID: "x", Address: "1", Weight: 9}, Endpoint{ID: "y", Address: "2", Weight: 9})
		a.send(Endpoint{ID: "y", Address: "1", Weight: 0}, Endpoint{ID: "z", Address: "1", Weight: 1})
		u, _ := s.Snapshot("x")
		want := []Endpoint{{ID: "y", Address: "1"}, {ID: "z", Address: "1", Weight: 1}, {ID: "y", Address: "2", Weight: 9}}
		if !Equal(u.Endpoints, want) || u.Index != 0 {
			t.Errorf("got %+v, want %+v", u, want)
		}
		origin := s.Origins("x")[EndpointKey{"z", "1"}]
		if origin.Position != 0 || origin.Source.From != "first" || len(origin.Also) != 1 || origin.Also[0] != "second" {
			t.Errorf("origin %+v", origin)
		}
		a.send()
		time.Sleep(time.Second)
		if u, _ := s.Snapshot("x"); len(u.Endpoints) != 2 || u.Endpoints[0].Weight != 9 {
			t.Errorf("the second source's endpoint did not come forth: %+v", u.Endpoints)
		}
	})
}

func TestMergeKeepsEachSourcesLastGoodSet(t *testing.T) {
	inMerge(t, func(t *testing.T, s *Set, r *recorder, a, b *scripted) {
		start := time.Now()
		a.good("1")
		b.good("2")
		time.Sleep(time.Minute)
		a.bad(errors.New("away"))
		time.Sleep(time.Minute)
		b.good("2", "3")
		time.Sleep(time.Minute)
		r.want(t, "0s x [1]", "20ms x [1 2]", "2m0s x [1 2 3]")

		st := s.Status()[0]
		if st.From != "first, second" || st.Err == nil || st.Err.Error() != "first: away" || st.Endpoints != 3 || st.Ended ||
			st.Age(time.Now()) != 2*time.Minute || st.Success != start || len(st.Sources) != 2 {
			t.Errorf("status %+v", st)
		}
		if one, two := st.Sources[0], st.Sources[1]; one.Failures != 1 || one.Endpoints != 1 || two.Err != nil || two.Success != start.Add(2*time.Minute) {
			t.Errorf("sources %+v", st.Sources)
		}
		origins := s.Origins("x")
		for address, want := range map[string]Origin{
			"1": {Position: 0, Since: start, Source: st.Sources[0]},
			"2": {Position: 1, Since: start, Source: st.Sources[1]},
			"3": {Position: 1, Since: start.Add(2 * time.Minute), Source: st.Sources[1]},
		} {
			got := origins[EndpointKey{address, address}]
			if got.Position != want.Position || got.Since != want.Since || got.Source != want.Source {
				t.Errorf("origin of %s: %+v, want %+v", address, got, want)
			}
		}
	})
}

func TestWaitFirstOfSeveralSources(t *testing.T) {
	away := errors.New("away")
	for name, c := range map[string]struct {
		do   func(a, b *scripted)
		want string
	}{
		"all have answered":                   {func(a, b *scripted) { a.good("1"); b.good() }, ""},
		"one is silent":                       {func(a, b *scripted) { a.good("1") }, `discovery: service "x": no answer from second yet`},
		"one failed, another stands in":       {func(a, b *scripted) { a.bad(away); b.good("2") }, ""},
		"one failed, the other has none":      {func(a, b *scripted) { a.bad(away); b.good() }, `discovery: service "x": no endpoints yet: away`},
		"one failed after its first endpoint": {func(a, b *scripted) { a.good("1"); a.bad(away); b.bad(away) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			inMerge(t, func(t *testing.T, s *Set, _ *recorder, a, b *scripted) {
				c.do(a, b)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				err := s.WaitFirst(ctx)
				if c.want == "" && err != nil || c.want != "" && (err == nil || err.Error() != c.want) {
					t.Errorf("got %v, want %q", err, c.want)
				}
			})
		})
	}
}

func TestApplyKeepsTheSourcesThatStay(t *testing.T) {
	inMerge(t, func(t *testing.T, s *Set, r *recorder, a, b *scripted) {
		a.good("1")
		b.good("2")
		time.Sleep(time.Second)

		c := newScripted()
		s.Apply(map[string][]Spec{"x": {c.named("c", "third"), b.named("b", "second")}})
		synctest.Wait()
		if a.ended != 1 || b.ended != 0 || b.started != 1 || c.started != 1 {
			t.Errorf("a ended %d; b started %d, ended %d; c started %d", a.ended, b.started, b.ended, c.started)
		}
		if from := s.Origins("x")[EndpointKey{"1", "1"}].Source.From; from != "first" {
			t.Errorf("the endpoint of a source that was replaced is said to come from %s", from)
		}
		time.Sleep(time.Second)
		c.good("3")
		time.Sleep(time.Second)
		if from := s.Origins("x")[EndpointKey{"3", "3"}].Source.From; from != "third" {
			t.Errorf("an endpoint of the new source is said to come from %s", from)
		}

		s.Apply(map[string][]Spec{"x": {b.named("b", "second"), c.named("c", "third")}})
		time.Sleep(time.Second)
		s.Apply(map[string][]Spec{"x": {b.named("b", "second")}})
		time.Sleep(time.Second)
		synctest.Wait()
		r.want(t, "0s x [1]", "20ms x [1 2]", "2s x [3 2]", "3s x [2 3]", "4s x [2]")
		if b.started != 1 || b.ended != 0 || c.ended != 1 {
			t.Errorf("b started %d, ended %d; c ended %d", b.started, b.ended, c.ended)
		}
	})
}

func TestErrorsAreLoggedWhenTheyAreNews(t *testing.T) {
	inMerge(t, func(t *testing.T, s *Set, _ *recorder, a, _ *scripted) {
		var lines strings.Builder
		s.log = slog.New(slog.NewTextHandler(&lines, nil))
		a.bad(errors.New("one"))
		a.bad(errors.New("two"))
		a.updates <- Update{Err: errors.New("three"), News: true}
		synctest.Wait()
		a.good("1")
		a.bad(errors.New("four"))
		for text, want := range map[string]bool{"error=one": true, "error=two": false, "error=three": true, "source back": true, "error=four": true} {
			if strings.Contains(lines.String(), text) != want {
				t.Errorf("%q in the log: want %v\n%s", text, want, lines.String())
			}
		}
	})
}
