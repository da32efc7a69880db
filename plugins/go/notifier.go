package main

import (
	"context"
	"crypto/subtle"
	"log/slog"
	"time"

	pb "example.org/onward-notifier/gen/notifierv1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Taken off the caller's deadline, so that the answer arrives before it.
const answerMargin = 200 * time.Millisecond

// Notifier is the calls of the contract.
type Notifier struct {
	pb.UnimplementedNotifierServiceServer
	deliveries *Deliveries
	limits     Limits
}

// Describe says what this plugin can do.
func (n *Notifier) Describe(context.Context, *pb.DescribeRequest) (*pb.DescribeResponse, error) {
	return &pb.DescribeResponse{
		Name: name, Version: version, Channels: channels,
		BatchMax: uint32(n.limits.BatchMax), ConcurrencyMax: uint32(n.limits.CallsMax),
	}, nil
}

// Notify answers for each delivery of the batch.
func (n *Notifier) Notify(ctx context.Context, request *pb.NotifyRequest) (*pb.NotifyResponse, error) {
	size := len(request.Deliveries)
	if size < 1 || size > n.limits.BatchMax {
		return nil, status.Errorf(codes.InvalidArgument,
			"a batch has 1 to %d deliveries, not %d", n.limits.BatchMax, size)
	}
	if deadline, known := ctx.Deadline(); known {
		within, cancel := context.WithDeadline(ctx, deadline.Add(-answerMargin))
		defer cancel()
		ctx = within
	}
	results := n.deliveries.Answer(ctx, request.Deliveries)
	outcomes := map[string]int{}
	for _, result := range results {
		outcomes[result.Outcome.String()]++
	}
	slog.Info("batch", "deliveries", size, "outcomes", outcomes)
	return &pb.NotifyResponse{Results: results}, nil
}

// requireSecret refuses every call that does not carry the secret.
func requireSecret(secret string) grpc.ServerOption {
	expected := []byte("Bearer " + secret)
	return grpc.ChainUnaryInterceptor(func(
		ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
	) (any, error) {
		for _, given := range metadata.ValueFromIncomingContext(ctx, "authorization") {
			if subtle.ConstantTimeCompare([]byte(given), expected) == 1 {
				return handler(ctx, request)
			}
		}
		return nil, status.Error(codes.Unauthenticated, "the shared secret is missing")
	})
}
