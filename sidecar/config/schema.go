package config

import (
	"bytes"
	_ "embed" // the schema
)

// schema is written by TestSchemaIsUpToDate -update, out of the structs of this package
// and the manual's reference.
//
//go:embed larboard.schema.json
var schema []byte

// Schema returns the JSON Schema (draft 7) of the configuration file, for editors. What
// [Load] accepts it accepts; what depends on other parts of the file, only Load finds.
func Schema() []byte { return bytes.Clone(schema) }
