//! The descriptor store: listeners that outlive the service.

use handover_tests::load::{Request, ask};
use handover_tests::within;
use tokio::net::TcpStream;

use crate::app::{App, reload_by};
use crate::machine::Machine;

on_each_version! {
    a_restart_refuses_no_client,
    a_client_waits_while_the_service_is_stopped,
    what_nobody_wants_any_more_leaves_the_store,
}

async fn a_restart_refuses_no_client(machine: Machine) {
    let app = App::new(&machine, "app", 7000);
    let reload = reload_by(&machine);
    app.load(&format!("{reload}\nFileDescriptorStoreMax=16"))
        .await;
    app.start().await;
    let load = app.load_of_every_kind();
    for _ in 0..3 {
        load.progress(1).await;
        let before = app.show().await.main_pid();
        machine.systemctl(["restart", &app.unit()]).await;
        assert_ne!(app.show().await.main_pid(), before);
    }
    load.progress(1).await;
    load.stop().await.assert_nothing_lost();
    app.stop().await;
}

/// Where systemd can keep the store of a unit that is stopped (254 and later).
async fn a_client_waits_while_the_service_is_stopped(machine: Machine) {
    if machine.version() < 254 {
        return;
    }
    let app = App::new(&machine, "app", 7000);
    app.load(&format!(
        "{}\nFileDescriptorStoreMax=16\nFileDescriptorStorePreserve=yes\n\
         [Install]\nWantedBy=basic.target",
        reload_by(&machine)
    ))
    .await;
    // systemd forgets a unit that is stopped and that no other one refers to, with its store.
    machine
        .systemctl(["enable", "--runtime", &app.unit()])
        .await;
    app.start().await;
    app.shows("in the store", |properties| {
        (properties.number("NFileDescriptorStore") >= 1).then_some(())
    })
    .await;
    app.stop().await;
    let stream = TcpStream::connect(machine.address(7000)).await;
    drop(stream.expect("a listener, though nobody accepts"));
    let request = Request::get("/");
    let (answer, ()) = tokio::join!(ask(&app.target, &request), async {
        app.start().await;
    });
    answer.expect("an answer of the next start");
    app.stop().await;
    machine
        .systemctl(["clean", "--what=fdstore", &app.unit()])
        .await;
    TcpStream::connect(machine.address(7000))
        .await
        .expect_err("nobody has the listener");
}

/// An address that the service does not listen on any more is free.
async fn what_nobody_wants_any_more_leaves_the_store(machine: Machine) {
    let app = App::new(&machine, "app", 7000);
    let reload = reload_by(&machine);
    let other = machine.address(7001);
    app.load(&format!(
        "{reload}\nFileDescriptorStoreMax=16\nEnvironment=FIXTURE_STREAMS={other}"
    ))
    .await;
    app.start().await;
    app.shows("in the store twice", |properties| {
        (properties.number("NFileDescriptorStore") >= 2).then_some(())
    })
    .await;
    let kept = app.show().await.number("NFileDescriptorStore");
    app.load(&format!("{reload}\nFileDescriptorStoreMax=16"))
        .await;
    machine.systemctl(["restart", &app.unit()]).await;
    app.shows("in the store once less", |properties| {
        (properties.number("NFileDescriptorStore") < kept).then_some(())
    })
    .await;
    let refused = within("a refusal", async {
        // The last copy may be about to be closed.
        while TcpStream::connect(other).await.is_ok() {
            tokio::task::yield_now().await;
        }
    });
    refused.await;
    app.identity().await;
    app.stop().await;
}
