//! The port of the broker in this process.

use leveret::Bus;
use leveret::local::LocalDriver;
use leveret_broker::Broker;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn other_programs_can_join_until_the_bus_is_closed() {
    let driver = LocalDriver::new(&Broker::in_memory(), false);
    let driver = driver.listening("127.0.0.1:0".parse().expect("an address")).await.expect("it is free");
    let address = driver.address().expect("it listens");
    let taken = Bus::open(&format!("local:?listen={address}")).await.map(drop).expect_err("it is in use");
    assert!(taken.to_string().starts_with(&format!("'listen={address}': ")), "{taken}");
    let bus = Bus::with_driver(driver);
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream.write_all(b"AMQP\0\0\x09\x01").await.expect("it takes that");
    let mut start = [0; 11];
    stream.read_exact(&mut start).await.expect("it answers");
    // A method frame of channel 0, and of that connection.start: sections 2.3.5 and 1.4.2.2 of the specification.
    assert_eq!((&start[..3], &start[7..]), (&[1, 0, 0][..], &[0, 10, 0, 10][..]));
    drop(stream);
    bus.close().await.expect("it ends");
    TcpStream::connect(address).await.expect_err("nobody listens any more");
}
