package deploy

import (
	"bytes"
	"encoding/json"
)

// source is the datasource that the reader of a dashboard chooses.
var source = datasource{Type: "prometheus", UID: "${datasource}"}

// What Grafana reads, as far as it is used here; everything else has its default.
type (
	board struct {
		UID           string     `json:"uid"`
		Title         string     `json:"title"`
		Description   string     `json:"description"`
		Tags          []string   `json:"tags"`
		SchemaVersion int        `json:"schemaVersion"`
		Version       int        `json:"version"`
		Editable      bool       `json:"editable"`
		Timezone      string     `json:"timezone"`
		Refresh       string     `json:"refresh"`
		GraphTooltip  int        `json:"graphTooltip"`
		Time          timeRange  `json:"time"`
		Links         []link     `json:"links"`
		Templating    templating `json:"templating"`
		Panels        []panel    `json:"panels"`
	}
	timeRange struct {
		From string `json:"from"`
		To   string `json:"to"`
	}
	link struct {
		Title       string   `json:"title"`
		Type        string   `json:"type"`
		Tags        []string `json:"tags"`
		AsDropdown  bool     `json:"asDropdown"`
		IncludeVars bool     `json:"includeVars"`
		KeepTime    bool     `json:"keepTime"`
	}
	templating struct {
		List []variable `json:"list"`
	}
	variable struct {
		Name       string      `json:"name"`
		Label      string      `json:"label"`
		Type       string      `json:"type"`
		Query      string      `json:"query"`
		Datasource *datasource `json:"datasource,omitempty"`
		Refresh    int         `json:"refresh"`
		Sort       int         `json:"sort"`
		Multi      bool        `json:"multi"`
		IncludeAll bool        `json:"includeAll"`
		AllValue   string      `json:"allValue,omitempty"`
	}
	datasource struct {
		Type string `json:"type"`
		UID  string `json:"uid"`
	}
	panel struct {
		ID          int          `json:"id"`
		Type        string       `json:"type"`
		Title       string       `json:"title"`
		Description string       `json:"description,omitempty"`
		GridPos     grid         `json:"gridPos"`
		Datasource  *datasource  `json:"datasource,omitempty"`
		Targets     []target     `json:"targets,omitempty"`
		FieldConfig *fieldConfig `json:"fieldConfig,omitempty"`
		Options     any          `json:"options,omitempty"`
		Collapsed   *bool        `json:"collapsed,omitempty"`
	}
	grid struct {
		H int `json:"h"`
		W int `json:"w"`
		X int `json:"x"`
		Y int `json:"y"`
	}
	target struct {
		RefID        string     `json:"refId"`
		Datasource   datasource `json:"datasource"`
		Expr         string     `json:"expr"`
		LegendFormat string     `json:"legendFormat"`
	}
	fieldConfig struct {
		Defaults  map[string]any `json:"defaults"`
		Overrides []any          `json:"overrides"`
	}
)

// A dashboard as it is written down here.
type (
	dashboard struct {
		file, title, about string
		variables          []variable
		rows               []row
	}
	row struct {
		title  string
		panels []graph
	}
	// graph is a panel: a curve for each query and its labels, or one number each.
	graph struct {
		title, about, unit string
		number             bool
		queries            []query
	}
	query struct{ expr, legend string }
)

// asking is a variable whose values Prometheus knows.
func asking(name, label, metric string) variable {
	return variable{Name: name, Label: label, Type: "query", Query: "label_values(" + metric + ", " + name + ")",
		Datasource: &source, Refresh: 2, Sort: 1, Multi: true, IncludeAll: true, AllValue: ".+"}
}

// encode writes a dashboard as Grafana's JSON.
func (d dashboard) encode() ([]byte, error) {
	b := board{UID: "larboard-" + d.file, Title: "Larboard / " + d.title, Description: d.about, Tags: []string{"larboard"},
		SchemaVersion: 39, Version: 1, Editable: true, Timezone: "browser", Refresh: "30s", GraphTooltip: 1,
		Time:  timeRange{"now-1h", "now"},
		Links: []link{{Title: "Larboard", Type: "dashboards", Tags: []string{"larboard"}, AsDropdown: true, IncludeVars: true, KeepTime: true}}}
	b.Templating.List = append([]variable{{Name: "datasource", Label: "Data source", Type: "datasource", Query: "prometheus", Refresh: 1}}, d.variables...)
	id, y := 0, 0
	place := func(p panel) {
		id++
		p.ID = id
		b.Panels = append(b.Panels, p)
	}
	open := false
	for _, r := range d.rows {
		place(panel{Type: "row", Title: r.title, GridPos: grid{H: 1, W: 24, Y: y}, Collapsed: &open})
		y++
		x, tall := 0, 0
		for _, g := range r.panels {
			p := g.panel()
			if x+p.GridPos.W > 24 {
				x, y, tall = 0, y+tall, 0
			}
			p.GridPos.X, p.GridPos.Y = x, y
			x, tall = x+p.GridPos.W, max(tall, p.GridPos.H)
			place(p)
		}
		y += tall
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(b)
	return out.Bytes(), err
}

func (g graph) panel() panel {
	p := panel{Type: "timeseries", Title: g.title, Description: g.about, Datasource: &source, GridPos: grid{H: 8, W: 8},
		FieldConfig: &fieldConfig{Defaults: map[string]any{"unit": g.unit, "min": 0}, Overrides: []any{}},
		Options: map[string]any{"legend": map[string]any{"displayMode": "list", "placement": "bottom"},
			"tooltip": map[string]any{"mode": "multi", "sort": "desc"}}}
	if g.number {
		p.Type, p.GridPos = "stat", grid{H: 4, W: 4}
		p.Options = map[string]any{"colorMode": "value", "graphMode": "area", "reduceOptions": map[string]any{"calcs": []string{"lastNotNull"}}}
	}
	for i, q := range g.queries {
		p.Targets = append(p.Targets, target{RefID: string(rune('A' + i)), Datasource: source, Expr: q.expr, LegendFormat: q.legend})
	}
	return p
}
