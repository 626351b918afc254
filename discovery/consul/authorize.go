package consul

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/hashicorp/consul/api"
)

// nobody is a namespace and a service that no intention names, unless one is for all
// namespaces. Editions of Consul without namespaces compare them nonetheless.
const nobody = "larboard-asks-for-the-default"

// defaultPolicy learns what the agent decides where no intention matches, as it does
// for Consul's own proxy. The agent's configuration tells too (acl.default_policy,
// default_intention_policy), but not to a token that may only act as the service.
func (c *Client) defaultPolicy(ctx context.Context, service string) (DefaultPolicy, error) {
	path := "/ns/" + nobody + "/dc/dc1/svc/" + nobody
	if p := c.options.Partition; p != "" && p != "default" {
		path = "/ap/" + p + path
	}
	got, err := c.authorize(ctx, api.AgentAuthorizeParams{Target: service, ClientCertURI: "spiffe://nobody.consul" + path})
	switch {
	case err != nil:
		return DefaultUnknown, err
	case strings.HasPrefix(got.Reason, "Matched "): // see nobody
		return DefaultUnknown, nil
	case got.Authorized:
		return DefaultAllow, nil
	}
	return DefaultDeny, nil
}

// authorize asks the agent for one verdict. The library's own call knows no context.
func (c *Client) authorize(ctx context.Context, ask api.AgentAuthorizeParams) (api.AgentAuthorize, error) {
	var got api.AgentAuthorize
	body, err := json.Marshal(ask)
	if err != nil {
		return got, err
	}
	params := url.Values{}
	for name, value := range map[string]string{"ns": c.options.Namespace, "partition": c.options.Partition} {
		if value != "" {
			params.Set(name, value)
		}
	}
	at := url.URL{Scheme: c.target.scheme, Host: c.target.host, Path: "/v1/agent/connect/authorize", RawQuery: params.Encode()}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at.String(), bytes.NewReader(body))
	if err != nil {
		return got, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return got, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return got, err
	}
	if resp.StatusCode != http.StatusOK {
		return got, api.StatusError{Code: resp.StatusCode, Body: strings.TrimSpace(string(answer))}
	}
	return got, json.Unmarshal(answer, &got)
}
