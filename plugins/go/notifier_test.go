package main

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	pb "example.org/onward-notifier/gen/notifierv1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const secret = "0123456789abcdef"

func environment(values map[string]string) func(string) string {
	return func(name string) string { return values[name] }
}

// started is a plugin that serves, and a connection to it; both end with the test.
func started(t *testing.T) (*grpc.ClientConn, context.Context) {
	ctx, stop := context.WithCancel(context.Background())
	addresses := make(chan net.Addr, 1)
	ended := make(chan error, 1)
	getenv := environment(map[string]string{"ONWARD_SECRET": secret, "ONWARD_PLUGIN_LISTEN": "127.0.0.1:0"})
	go func() { ended <- serve(ctx, getenv, func(address net.Addr) { addresses <- address }) }()
	address := (<-addresses).String()
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		connection.Close()
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	calls, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return connection, metadata.AppendToOutgoingContext(calls, "authorization", "Bearer "+secret)
}

func TestItServesWhoShowsTheSecretAndNobodyElse(t *testing.T) {
	connection, ctx := started(t)
	client := pb.NewNotifierServiceClient(connection)
	said, err := client.Describe(ctx, &pb.DescribeRequest{})
	if err != nil || said.Name != name {
		t.Errorf("%v, %v", said, err)
	}
	for _, given := range []string{"", "Bearer wrong", "Bearer " + secret + "x"} {
		wrong := metadata.NewOutgoingContext(ctx, metadata.Pairs("authorization", given))
		_, err = client.Notify(wrong, &pb.NotifyRequest{Deliveries: []*pb.Delivery{delivery("a")}})
		if status.Code(err) != codes.Unauthenticated {
			t.Errorf("%q: %v", given, err)
		}
	}
}

func TestABatchBeyondTheBoundIsRefusedAndTheNextOneAnswered(t *testing.T) {
	connection, ctx := started(t)
	client := pb.NewNotifierServiceClient(connection)
	for _, size := range []int{0, defaultLimits.BatchMax + 1} {
		_, err := client.Notify(ctx, &pb.NotifyRequest{Deliveries: make([]*pb.Delivery, size)})
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("%d: %v", size, err)
		}
	}
	answer, err := client.Notify(ctx, &pb.NotifyRequest{Deliveries: []*pb.Delivery{delivery("a")}})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, outcomes(answer.Results), "a ACCEPTED; ")
}

func TestTheAnswerComesBeforeTheDeadline(t *testing.T) {
	connection, ctx := started(t)
	client := pb.NewNotifierServiceClient(connection)
	slow := delivery("s")
	slow.Endpoint = "example:slow"
	short, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	answer, err := client.Notify(short, &pb.NotifyRequest{Deliveries: []*pb.Delivery{slow, delivery("a")}})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, outcomes(answer.Results), "s UNKNOWN; a ACCEPTED; ")
}

func TestHealthSaysServing(t *testing.T) {
	connection, ctx := started(t)
	answer, err := healthpb.NewHealthClient(connection).Check(ctx, &healthpb.HealthCheckRequest{})
	if err != nil || answer.Status != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("%v, %v", answer, err)
	}
}

func TestWrongSettingsStopTheStartWithASentence(t *testing.T) {
	for words, values := range map[string]map[string]string{
		"ONWARD_SECRET is not set":     {},
		"shorter than 16":              {"ONWARD_SECRET": "short"},
		"set all, or none":             {"ONWARD_PLUGIN_TLS_CA_FILE": "ca.pem"},
		"no such file or directory":    {"ONWARD_SECRET": secret, "ONWARD_PLUGIN_SENT_LOG": "/nowhere/at/all"},
		"missing port in address":      {"ONWARD_SECRET": secret, "ONWARD_PLUGIN_LISTEN": "nonsense"},
		"cert.pem: no such file or di": {"ONWARD_PLUGIN_TLS_CA_FILE": "/no/ca.pem", "ONWARD_PLUGIN_TLS_CERT_FILE": "/no/cert.pem", "ONWARD_PLUGIN_TLS_KEY_FILE": "/no/key.pem"},
	} {
		err := serve(context.Background(), environment(values), func(net.Addr) {})
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%q is not in %v", words, err)
		}
	}
}
