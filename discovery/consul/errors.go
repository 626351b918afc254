package consul

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
)

// readNeeds are the permissions for finding instances.
const readNeeds = "service:read and node:read"

// maxReason is how much of an agent's own error text is repeated, in bytes.
const maxReason = 200

// hungError says that no answer came in time.
type hungError struct{ after time.Duration }

func (e hungError) Error() string {
	return fmt.Sprintf("no answer within %v", e.after.Round(time.Second))
}

// explain says what was tried, where, and what the failure means; needs are the
// ACL permissions for it. The token never is part of it.
func (c *Client) explain(what, needs string, err error) error {
	err = plain(err, needs)
	if text := err.Error(); c.token.redact(text) != text {
		err = errors.New(c.token.redact(text))
	}
	return fmt.Errorf("consul: %s at %s: %w", what, c.address, err)
}

// plain turns the library's errors into what an operator needs.
func plain(err error, needs string) error {
	var status api.StatusError
	if errors.As(err, &status) {
		return fmt.Errorf("answered %d%s: %s", status.Code, meaning(status.Code, needs), reason(status.Body))
	}
	var located *url.Error
	if errors.As(err, &located) {
		return located.Err // without the URL, which repeats address and index
	}
	return err
}

// meaning explains the codes whose cause lies with the operator.
func meaning(code int, needs string) string {
	switch code {
	case http.StatusBadRequest:
		return " (query refused: check filter, datacenter, namespace and partition)"
	case http.StatusForbidden:
		return " (permission refused: the token needs " + needs + ")"
	case http.StatusNotFound:
		return " (is this a Consul agent?)"
	case http.StatusTooManyRequests:
		return " (the agent sheds load)"
	default:
		return ""
	}
}

// reason is the agent's text, short and in one line.
func reason(body string) string {
	if len(body) > maxReason {
		body = strings.ToValidUTF8(body[:maxReason], "") + "..."
	}
	return strconv.Quote(body)
}
