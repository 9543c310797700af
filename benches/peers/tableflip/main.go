// The example of tableflip's documentation: net/http, replaced at SIGHUP, with Shutdown for the old process.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/cloudflare/tableflip"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatalln("usage: tableflip ADDRESS")
	}
	upgrader, err := tableflip.New(tableflip.Options{})
	if err != nil {
		log.Fatalln(err)
	}
	defer upgrader.Stop()
	go func() {
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, syscall.SIGHUP)
		for range signals {
			if err := upgrader.Upgrade(); err != nil {
				log.Println("upgrade failed:", err)
			}
		}
	}()
	listener, err := upgrader.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatalln(err)
	}
	http.HandleFunc("/", func(answer http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(answer, "pid=%d\n", os.Getpid())
	})
	server := http.Server{}
	go func() {
		if err := server.Serve(listener); err != http.ErrServerClosed {
			log.Fatalln(err)
		}
	}()
	if err := upgrader.Ready(); err != nil {
		log.Fatalln(err)
	}
	<-upgrader.Exit()
	time.AfterFunc(30*time.Second, func() { log.Fatalln("the shutdown has timed out") })
	if err := server.Shutdown(context.Background()); err != nil {
		log.Fatalln(err)
	}
}
