//! One version of the crate dstack-sdk against the agent. INTEROP_VECTORS names the values that the public test identity
//! must give; feature `algorithms` stands for the methods that the crate has since 0.1.3.

use dstack_sdk::dstack_client::DstackClient;
use dstack_sdk::ethereum::to_account;
use dstack_sdk::tappd_client::TappdClient;
use dstack_sdk_types::dstack::TlsKeyConfig;
use serde_json::Value;

fn vectors() -> Value {
    let path = std::env::var("INTEROP_VECTORS").expect("INTEROP_VECTORS");
    serde_json::from_str(&std::fs::read_to_string(path).expect("readable")).expect("JSON")
}

fn dstack() -> DstackClient {
    DstackClient::new(Some(&std::env::var("DSTACK_SIMULATOR_ENDPOINT").expect("endpoint")))
}

fn tappd() -> TappdClient {
    TappdClient::new(Some(&std::env::var("TAPPD_SIMULATOR_ENDPOINT").expect("endpoint")))
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().expect(name)
}

fn tls_config() -> TlsKeyConfig {
    TlsKeyConfig::builder()
        .subject("example.com")
        .alt_names(vec!["localhost".to_string()])
        .usage_ra_tls(true)
        .build()
}

#[tokio::test]
async fn get_key_known_values() {
    for vector in vectors()["get_key"].as_array().unwrap() {
        let request = &vector["request"];
        // This client asks for secp256k1 alone.
        if text(request, "algorithm") != "secp256k1" {
            continue;
        }
        let (path, purpose) = (text(request, "path"), text(request, "purpose"));
        let key = dstack().get_key(Some(path.into()), Some(purpose.into())).await.unwrap();
        assert_eq!(key.key, text(&vector["response"], "key"), "{request}");
        assert_eq!(serde_json::json!(key.signature_chain), vector["response"]["signature_chain"]);
        assert_eq!(key.decode_key().unwrap().len(), 32);
    }
}

#[tokio::test]
async fn get_key_without_arguments() {
    let key = dstack().get_key(None, None).await.unwrap();
    assert_eq!(key.key, text(&vectors()["get_key"][0]["response"], "key"));
}

#[tokio::test]
async fn get_quote_report_data() {
    let quote = dstack().get_quote(b"test".to_vec()).await.unwrap().decode_quote().unwrap();
    let mut expected = b"test".to_vec();
    expected.resize(64, 0);
    assert_eq!(&quote[568..632], &expected[..]);
}

#[tokio::test]
async fn get_quote_refuses_65_bytes() {
    assert!(dstack().get_quote(vec![1; 65]).await.is_err());
}

#[tokio::test]
async fn get_quote_log_replays() {
    let replayed = dstack().get_quote(b"test".to_vec()).await.unwrap().replay_rtmrs().unwrap();
    let tcb = dstack().info().await.unwrap().tcb_info;
    let found: Vec<&String> = (0..4).map(|n| &replayed[&n]).collect();
    assert_eq!(found, vec![&tcb.rtmr0, &tcb.rtmr1, &tcb.rtmr2, &tcb.rtmr3]);
}

#[tokio::test]
async fn info() {
    let info = dstack().info().await.unwrap();
    let known = &vectors()["info"];
    assert_eq!(info.app_id, text(known, "app_id"));
    assert_eq!(info.instance_id, text(known, "instance_id"));
    for member in [&info.app_cert, &info.app_name, &info.device_id, &info.key_provider_info, &info.compose_hash] {
        assert!(!member.is_empty());
    }
    assert!(!info.tcb_info.event_log.is_empty());
}

#[tokio::test]
async fn get_tls_key() {
    let made = dstack().get_tls_key(tls_config()).await.unwrap();
    assert!(made.key.starts_with("-----BEGIN PRIVATE KEY-----"));
    assert!(made.certificate_chain.len() >= 2);
}

#[tokio::test]
async fn get_tls_key_differs_each_time() {
    let first = dstack().get_tls_key(tls_config()).await.unwrap();
    assert_ne!(first.key, dstack().get_tls_key(tls_config()).await.unwrap().key);
}

#[tokio::test]
async fn ethereum_account_has_the_known_address() {
    let accounts = &vectors()["accounts"];
    let (path, purpose) = (text(accounts, "path"), text(accounts, "purpose"));
    let key = dstack().get_key(Some(path.into()), Some(purpose.into())).await.unwrap();
    assert_eq!(to_account(&key).unwrap().address().to_checksum(None), text(accounts, "ethereum"));
}

#[tokio::test]
async fn tappd_derive_key_known_values() {
    for vector in vectors()["tappd_derive_key"].as_array().unwrap() {
        let derived = tappd().derive_key(text(vector, "path")).await.unwrap();
        assert_eq!(derived.key.trim(), text(vector, "key_pem").trim());
        assert_eq!(derived.decode_key().unwrap().len(), 32);
    }
}

#[tokio::test]
async fn tappd_derive_key_with_subject_and_names() {
    let names = Some(vec!["localhost".to_string()]);
    let derived = tappd().derive_key_with_subject_and_alt_names("/", Some("test"), names).await.unwrap();
    assert!(derived.certificate_chain.len() >= 2);
    assert!(tappd().derive_key_with_subject("/", "test").await.unwrap().key == derived.key);
}

#[tokio::test]
async fn tappd_get_quote_takes_64_bytes() {
    let quote = tappd().get_quote(vec![7; 64]).await.unwrap().decode_quote().unwrap();
    assert_eq!(&quote[568..632], &[7; 64]);
}

#[tokio::test]
async fn tappd_info() {
    assert_eq!(tappd().info().await.unwrap().app_id, text(&vectors()["info"], "app_id"));
}

#[cfg(feature = "algorithms")]
mod algorithms {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len() / 2).map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap()).collect()
    }

    #[tokio::test]
    async fn attest() {
        let evidence = dstack().attest(b"nonce".to_vec()).await.unwrap().decode_attestation().unwrap();
        assert!(evidence.len() > 1000);
        assert!(dstack().attest(vec![1; 65]).await.is_err());
    }

    #[tokio::test]
    async fn version() {
        assert!(!dstack().version().await.unwrap().version.is_empty());
    }

    #[tokio::test]
    async fn sign_and_verify_known_values() {
        for vector in vectors()["sign"].as_array().unwrap() {
            let algorithm = text(&vector["request"], "algorithm");
            let mut data = bytes(text(&vector["request"], "data"));
            let signed = dstack().sign(algorithm, data.clone()).await.unwrap();
            assert_eq!(signed.signature, text(&vector["response"], "signature"));
            assert_eq!(signed.signature_chain.len(), 3);
            let (signature, key) = (signed.decode_signature().unwrap(), signed.decode_public_key().unwrap());
            for expected in [true, false] {
                let answer = dstack().verify(algorithm, data.clone(), signature.clone(), key.clone()).await;
                assert_eq!(answer.unwrap().valid, expected, "{algorithm}");
                data[0] ^= 1;
            }
        }
    }

    #[tokio::test]
    async fn sign_refuses_rsa() {
        assert!(dstack().sign("rsa", b"message".to_vec()).await.is_err());
    }

    #[tokio::test]
    async fn both_names_of_secp256k1_are_one_key() {
        let one = dstack().sign("k256", b"message".to_vec()).await.unwrap();
        assert_eq!(one.public_key, dstack().sign("secp256k1", b"message".to_vec()).await.unwrap().public_key);
    }
}
