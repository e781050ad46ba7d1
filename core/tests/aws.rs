//! Limits of AWS IoT Core that a caller meets before any connection.

use std::time::Duration;

use unstale::{CacheConfig, Client, ClientConfig, ErrorKind};

#[tokio::test]
async fn the_cache_whose_subscription_would_be_the_51st_is_refused_with_a_way_out() {
    let mut config = ClientConfig::from_url("awsiot://127.0.0.1:1?lazy=true").unwrap();
    config.username = Some("u".into());
    let client = Client::connect(config).await.unwrap();
    let open = |i: usize| client.cache::<u64>(&format!("n{i}"), CacheConfig::default());
    let _caches: Vec<_> = (1..50).map(|i| open(i).unwrap()).collect();
    let error = open(50).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("49 caches") && error.message().contains("another client"), "{error}");
    assert_eq!(client.close(Duration::from_millis(10)).await.unwrap(), 0);
}
