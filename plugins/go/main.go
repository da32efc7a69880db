// A notifier plugin: serves what send.go sends.
//
// Environment:
//
//	ONWARD_SECRET               the shared secret that callers show, 16 characters or more
//	ONWARD_PLUGIN_LISTEN        host:port; 127.0.0.1:7500 if it is not set, port 0 draws one
//	ONWARD_PLUGIN_TLS_CA_FILE   with _CERT_FILE and _KEY_FILE: mutual TLS, instead of the secret or
//	                            with it
//	ONWARD_PLUGIN_SENT_LOG      a file that gets a line for each send; for conformance tests only
package main

//go:generate ./generate.sh

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	pb "example.org/onward-notifier/gen/notifierv1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
)

const (
	secretCharactersMin = 16
	// A call of the presence service may have 8 MiB of content.
	messageBytesMax = 32 << 20
	drain           = 5 * time.Second
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	ready := func(address net.Addr) { fmt.Printf("%s ready: %s\n", name, address) }
	if err := serve(ctx, os.Getenv, ready); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// serve serves until ctx ends, then ends what is under way.
func serve(ctx context.Context, getenv func(string) string, ready func(net.Addr)) error {
	options, err := trust(getenv)
	if err != nil {
		return err
	}
	sent, err := sentLog(getenv)
	if err != nil {
		return err
	}
	address := getenv("ONWARD_PLUGIN_LISTEN")
	if address == "" {
		address = "127.0.0.1:7500"
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	options = append(options,
		grpc.MaxRecvMsgSize(messageBytesMax),
		// The presence service pings every 10 s, also while there is nothing to send.
		grpc.KeepaliveEnforcementPolicy(
			keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true},
		),
	)
	server := grpc.NewServer(options...)
	deliveries := NewDeliveries(channels, send, defaultLimits, sent)
	pb.RegisterNotifierServiceServer(server, &Notifier{deliveries: deliveries, limits: defaultLimits})
	healthy := health.NewServer()
	healthy.SetServingStatus(pb.NotifierService_ServiceDesc.ServiceName, healthpb.HealthCheckResponse_SERVING)
	healthpb.RegisterHealthServer(server, healthy)

	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	ready(listener.Addr())
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	healthy.Shutdown()
	cut := time.AfterFunc(drain, server.Stop)
	defer cut.Stop()
	server.GracefulStop()
	deliveries.Finish(drain)
	return nil
}

// trust says who may call: who shows the secret, a certificate, or both.
func trust(getenv func(string) string) ([]grpc.ServerOption, error) {
	var options []grpc.ServerOption
	secret := getenv("ONWARD_SECRET")
	if secret != "" && len(secret) < secretCharactersMin {
		return nil, fmt.Errorf("ONWARD_SECRET is shorter than %d characters", secretCharactersMin)
	}
	if secret != "" {
		options = append(options, requireSecret(secret))
	}
	const prefix = "ONWARD_PLUGIN_TLS_"
	ca, cert, key := getenv(prefix+"CA_FILE"), getenv(prefix+"CERT_FILE"), getenv(prefix+"KEY_FILE")
	if ca == "" && cert == "" && key == "" {
		if secret == "" {
			return nil, errors.New("ONWARD_SECRET is not set; set it, or " +
				prefix + "CA_FILE, _CERT_FILE and _KEY_FILE")
		}
		return options, nil
	}
	if ca == "" || cert == "" || key == "" {
		return nil, errors.New("of " + prefix + "CA_FILE, _CERT_FILE and _KEY_FILE set all, or none")
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New(prefix + "CA_FILE holds no certificate")
	}
	shown := credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
	})
	return append(options, grpc.Creds(shown)), nil
}

func sentLog(getenv func(string) string) (io.Writer, error) {
	path := getenv("ONWARD_PLUGIN_SENT_LOG")
	if path == "" {
		return nil, nil
	}
	return os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
}
