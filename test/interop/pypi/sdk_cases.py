"""Runs with one version of the package dstack-sdk: the same cases with its synchronous and its asynchronous clients.

What a version does not have is skipped by name. INTEROP_VECTORS names the values that the public test identity must give.
Prints TAP.
"""

import asyncio
import inspect
import json
import os
import unittest
import warnings

import dstack_sdk

warnings.simplefilter("ignore")

with open(os.environ["INTEROP_VECTORS"], encoding="utf-8") as file:
    VECTORS = json.load(file)

DSTACK = os.environ["DSTACK_SIMULATOR_ENDPOINT"]
TAPPD = os.environ["TAPPD_SIMULATOR_ENDPOINT"]
PADDED_TEST = "74657374" + "00" * 60


def quote_report_data(quote):
    """report_data of a version 4 TDX quote, in hex."""
    text = quote.quote[2:] if quote.quote.startswith("0x") else quote.quote
    return text[1136:1264]


class Cases:
    """Mixed into one class for each kind of client."""

    dstack_class = None
    tappd_class = None

    def setUp(self):
        self.dstack = self.make(self.dstack_class, DSTACK)
        self.tappd = self.make(self.tappd_class, TAPPD)

    def make(self, name, endpoint):
        kind = getattr(dstack_sdk, name, None)
        return kind(endpoint) if kind else None

    def call(self, client, method, *args, **kwargs):
        if not hasattr(client, method):
            self.skipTest(f"this version has no {method}")
        answer = getattr(client, method)(*args, **kwargs)
        return asyncio.run(answer) if inspect.isawaitable(answer) else answer

    def needs_algorithms(self):
        """The first version with version() is also the first that sends an algorithm."""
        if not hasattr(self.dstack, "version"):
            self.skipTest("this version sends no algorithm")

    def refused(self, *args, **kwargs):
        with self.assertRaises(Exception) as caught:
            self.call(*args, **kwargs)
        if isinstance(caught.exception, unittest.SkipTest):
            raise caught.exception

    # keys

    def test_get_key_known_values(self):
        for vector in VECTORS["get_key"]:
            request, expected = vector["request"], vector["response"]
            extra = {"algorithm": request["algorithm"]} if hasattr(self.dstack, "version") else {}
            if not extra and request["algorithm"] != "secp256k1":
                continue
            key = self.call(self.dstack, "get_key", request["path"], request["purpose"], **extra)
            self.assertEqual(key.key, expected["key"])
            self.assertEqual(key.signature_chain, expected["signature_chain"])
            self.assertEqual(len(key.decode_key()), 32)

    def test_get_key_both_names_of_secp256k1(self):
        self.needs_algorithms()
        keys = [self.call(self.dstack, "get_key", "p", "x", algorithm=name).key for name in ("k256", "secp256k1")]
        self.assertEqual(keys[0], keys[1])

    def test_get_key_refuses_rsa(self):
        self.needs_algorithms()
        self.refused(self.dstack, "get_key", "p", "x", algorithm="rsa")

    def test_get_key_refuses_secp256k1_prehashed(self):
        self.needs_algorithms()
        self.refused(self.dstack, "get_key", "p", "x", algorithm="secp256k1_prehashed")

    def test_tappd_get_key(self):
        if not hasattr(self.tappd, "get_key"):
            self.skipTest("this version has no get_key")
        self.assertEqual(
            self.call(self.tappd, "get_key", "/", "test").key, self.call(self.dstack, "get_key", "/", "test").key
        )

    def test_tappd_derive_key_known_values(self):
        for vector in VECTORS["tappd_derive_key"]:
            derived = self.call(self.tappd, "derive_key", vector["path"], "test")
            self.assertEqual(derived.key.strip(), vector["key_pem"].strip())
            self.assertGreaterEqual(len(derived.certificate_chain), 2)

    # evidence

    def test_get_quote_report_data(self):
        quote = self.call(self.dstack, "get_quote", "test")
        self.assertEqual(quote_report_data(quote), PADDED_TEST)
        self.assertGreater(len(json.loads(quote.event_log)), 0)

    def test_get_quote_takes_bytes(self):
        self.assertEqual(quote_report_data(self.call(self.dstack, "get_quote", b"test")), PADDED_TEST)

    def test_get_quote_log_replays(self):
        replayed = self.call(self.dstack, "get_quote", "test").replay_rtmrs()
        tcb = self.call(self.dstack, "info").tcb_info
        self.assertEqual([replayed[n] for n in range(4)], [tcb.rtmr0, tcb.rtmr1, tcb.rtmr2, tcb.rtmr3])

    def test_get_quote_refuses_65_bytes_and_none(self):
        self.refused(self.dstack, "get_quote", "x" * 65)
        self.refused(self.dstack, "get_quote", "")

    def test_attest(self):
        self.assertGreater(len(self.call(self.dstack, "attest", "nonce").decode_attestation()), 1000)
        self.refused(self.dstack, "attest", "x" * 65)

    def test_emit_event_is_refused_over_recorded_evidence(self):
        self.refused(self.dstack, "emit_event", "an-event", "payload")

    def test_tappd_tdx_quote_hashes(self):
        for algorithm, expected in VECTORS["tdx_quote_report_data"]["report_data"].items():
            quote = self.call(self.tappd, "tdx_quote", "test data", algorithm)
            self.assertEqual(quote_report_data(quote), expected, algorithm)

    def test_tappd_tdx_quote_raw(self):
        quote = self.call(self.tappd, "tdx_quote", "test data", "raw")
        self.assertTrue(quote_report_data(quote).endswith(b"test data".hex()))

    # certificates

    def test_get_tls_key(self):
        made = self.call(
            self.dstack, "get_tls_key", subject="example.com", alt_names=["localhost"], usage_ra_tls=True
        )
        self.assertTrue(made.key.startswith("-----BEGIN PRIVATE KEY-----"))
        self.assertGreaterEqual(len(made.certificate_chain), 2)
        self.assertEqual(len(made.as_uint8array(32)), 32)

    def test_get_tls_key_differs_each_time(self):
        keys = {self.call(self.dstack, "get_tls_key").key for _ in range(2)}
        self.assertEqual(len(keys), 2)

    def test_get_tls_key_names(self):
        from cryptography import x509

        made = self.call(self.dstack, "get_tls_key", subject="example.com", alt_names=["localhost", "127.0.0.1"])
        leaf = x509.load_pem_x509_certificate(made.certificate_chain[0].encode())
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual(names.get_values_for_type(x509.DNSName), ["localhost"])
        self.assertEqual([str(name) for name in names.get_values_for_type(x509.IPAddress)], ["127.0.0.1"])

    # info

    def test_info(self):
        info = self.call(self.dstack, "info")
        self.assertEqual(info.app_id, VECTORS["info"]["app_id"])
        self.assertEqual(info.instance_id, VECTORS["info"]["instance_id"])
        for register in (info.tcb_info.mrtd, info.tcb_info.rtmr0, info.tcb_info.rtmr3):
            self.assertEqual(len(register), 96)
        self.assertEqual((len(info.compose_hash), len(info.device_id)), (64, 64))
        self.assertGreater(len(info.tcb_info.event_log), 0)

    def test_tappd_info(self):
        if self.dstack is None:
            self.skipTest("this version needs rootfs_hash, which agents since 0.5 do not have")
        self.assertEqual(self.call(self.tappd, "info").app_id, VECTORS["info"]["app_id"])

    def test_is_reachable(self):
        self.assertTrue(self.call(self.dstack, "is_reachable"))
        self.assertTrue(self.call(self.tappd, "is_reachable"))

    def test_version(self):
        self.assertTrue(self.call(self.dstack, "version").version)

    # signatures

    def test_sign_and_verify_known_values(self):
        for vector in VECTORS["sign"]:
            algorithm, data = vector["request"]["algorithm"], bytes.fromhex(vector["request"]["data"])
            expected = vector["response"]
            signed = self.call(self.dstack, "sign", algorithm, data)
            self.assertEqual(signed.signature, expected["signature"])
            self.assertEqual(signed.signature_chain, expected["signature_chain"])
            proof = (signed.decode_signature(), signed.decode_public_key())
            self.assertTrue(self.call(self.dstack, "verify", algorithm, data, *proof).valid)
            altered = bytes([data[0] ^ 1]) + data[1:]
            self.assertFalse(self.call(self.dstack, "verify", algorithm, altered, *proof).valid)

    def test_sign_refuses(self):
        self.refused(self.dstack, "sign", "rsa", "message")
        self.refused(self.dstack, "sign", "secp256k1_prehashed", b"x" * 31)

    # accounts

    def account_key(self):
        accounts = VECTORS["accounts"]
        return self.call(self.dstack, "get_key", accounts["path"], accounts["purpose"])

    def test_ethereum_account(self):
        if self.dstack is None:
            self.skipTest("this version makes accounts of derive_key")
        from dstack_sdk import ethereum

        for make in (ethereum.to_account, ethereum.to_account_secure):
            self.assertEqual(make(self.account_key()).address, VECTORS["accounts"]["ethereum"])

    def test_solana_key_pair(self):
        if self.dstack is None:
            self.skipTest("this version makes accounts of derive_key")
        from dstack_sdk import solana

        self.assertEqual(str(solana.to_keypair(self.account_key()).pubkey()), VECTORS["accounts"]["solana"])


class SyncClient(Cases, unittest.TestCase):
    dstack_class, tappd_class = "DstackClient", "TappdClient"

    def test_many_calls_on_one_connection(self):
        if not hasattr(self.dstack, "__enter__"):
            self.skipTest("this version keeps no connection")
        with self.dstack:
            keys = {self.dstack.get_key("same").key for _ in range(20)}
        self.assertEqual(len(keys), 1)


class AsyncClient(Cases, unittest.TestCase):
    dstack_class, tappd_class = "AsyncDstackClient", "AsyncTappdClient"

    def test_kept_connection(self):
        if not hasattr(self.dstack, "__aenter__"):
            self.skipTest("this version keeps no connection")

        async def several():
            async with self.dstack as client:
                answers = [await client.get_key("same") for _ in range(20)]
                answers += await asyncio.gather(*(client.get_key("same") for _ in range(20)))
            return {answer.key for answer in answers}

        self.assertEqual(len(asyncio.run(several())), 1)


class Tap(unittest.TestResult):
    def line(self, state, test, note=""):
        name = f"{type(test).__name__} {test._testMethodName}"
        print(f"{state} {self.testsRun} - {name}{note}", flush=True)

    def addSuccess(self, test):
        super().addSuccess(test)
        self.line("ok", test)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.line("ok", test, f" # SKIP {reason}")

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.line("not ok", test)
        print(f"  # {err[1]!r}"[:600])

    addError = addFailure


if __name__ == "__main__":
    print("TAP version 13")
    outcome = Tap()
    unittest.defaultTestLoader.loadTestsFromModule(__import__("__main__")).run(outcome)
    raise SystemExit(0 if outcome.wasSuccessful() else 1)
