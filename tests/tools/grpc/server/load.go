package main

import (
	"time"

	reportpb "github.com/cncf/xds/go/xds/data/orca/v3"
	loadpb "github.com/cncf/xds/go/xds/service/orca/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/orca"
)

// load streams reports of the server's load as often as the client wants them.
// grpc-go's own service sends one in 30 s at most, which is more than the client's case
// orca_oob waits for.
type load struct {
	loadpb.UnimplementedOpenRcaServiceServer
	metrics orca.ServerMetricsProvider
}

func registerLoad(s grpc.ServiceRegistrar, metrics orca.ServerMetricsProvider) {
	loadpb.RegisterOpenRcaServiceServer(s, load{metrics: metrics})
}

func (l load) StreamCoreMetrics(in *loadpb.OrcaLoadReportRequest, stream loadpb.OpenRcaService_StreamCoreMetricsServer) error {
	tick := time.NewTicker(max(in.GetReportInterval().AsDuration(), 10*time.Millisecond))
	defer tick.Stop()
	for {
		if err := stream.Send(report(l.metrics.ServerMetrics())); err != nil {
			return err
		}
		select {
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-tick.C:
		}
	}
}

// report leaves out what has not been set, which is below zero.
func report(m *orca.ServerMetrics) *reportpb.OrcaLoadReport {
	r := &reportpb.OrcaLoadReport{Utilization: m.Utilization, RequestCost: m.RequestCost, NamedMetrics: m.NamedMetrics}
	if m.CPUUtilization >= 0 {
		r.CpuUtilization = m.CPUUtilization
	}
	if m.MemUtilization >= 0 {
		r.MemUtilization = m.MemUtilization
	}
	return r
}
