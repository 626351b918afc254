package injector

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// carried is mutated, a pod in JSON, with what original had and our types do not know: an API server
// that is newer than they are must get back what it has sent. Without this a patch would take it away.
func carried(original, mutated []byte) ([]byte, error) {
	var known corev1.Pod
	strict := json.NewDecoder(bytes.NewReader(original))
	strict.DisallowUnknownFields()
	if strict.Decode(&known) == nil {
		return mutated, nil // as nearly always: we know all
	}
	known = corev1.Pod{}
	if err := json.Unmarshal(original, &known); err != nil {
		return nil, err
	}
	before, err := json.Marshal(&known)
	if err != nil {
		return nil, err
	}
	var trees [3]any
	for i, text := range [][]byte{original, before, mutated} {
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.UseNumber()
		if err := decoder.Decode(&trees[i]); err != nil {
			return nil, err
		}
	}
	carry(trees[0], trees[1], trees[2])
	return json.Marshal(trees[2])
}

// carry adds to after what original has and before, the same as our types know it, has not.
func carry(original, before, after any) {
	switch original := original.(type) {
	case map[string]any:
		before, ok := before.(map[string]any)
		after, too := after.(map[string]any)
		if !ok || !too {
			return
		}
		for name, value := range original {
			was, known := before[name]
			is, stays := after[name]
			switch {
			case known && stays:
				carry(value, was, is)
			case !known && !stays:
				after[name] = value
			}
		}
	case []any:
		before, ok := before.([]any)
		after, too := after.([]any)
		if !ok || !too || len(original) != len(before) {
			return
		}
		for _, is := range after {
			if i := sameAs(is, before); i >= 0 {
				carry(original[i], before[i], is)
			}
		}
	}
}

// sameAs is the index of the element of a list that is still this one: by its name, or without
// one as it was; -1: none is.
func sameAs(element any, list []any) int {
	name := nameOf(element)
	return slices.IndexFunc(list, func(other any) bool {
		if name != nil {
			return name == nameOf(other)
		}
		return reflect.DeepEqual(element, other)
	})
}

func nameOf(element any) any {
	if m, ok := element.(map[string]any); ok {
		return m["name"]
	}
	return nil
}
