// Package lifecycle holds starts and stops to their order: an application beside its proxy,
// as two processes or as one, loses no call at either end. The test binary is the
// application, too.
package lifecycle
