/** A tunnel to one guest. */
export type WireGuardPeer = { readonly publicKey: string; readonly ip: string };

/**
 * The configuration file of the interface, byte for byte as the original writes it (docs/protocol/gateway.md section 6.2).
 * Keys and addresses were checked where they came in.
 * @param peers in the order of their instance ids
 */
export function wireGuardConfig(
  own: { readonly privateKey: string; readonly listenPort: number },
  peers: Iterable<WireGuardPeer>,
): string {
  const lines = [`[Interface]\nPrivateKey = ${own.privateKey}\nListenPort = ${own.listenPort}\n\n`];
  for (const { publicKey, ip } of peers)
    lines.push(`\n[Peer]\nPublicKey = ${publicKey}\nAllowedIPs = ${ip}/32\nPersistentKeepalive = 25\n`);
  return lines.join('');
}
