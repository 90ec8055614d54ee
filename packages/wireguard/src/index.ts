export { WireGuardError } from './errors.ts';
export { keyPairOf, newKeyPair, type WireGuardKeyPair } from './key-pair.ts';
export { parseHandshakes } from './parse-handshakes.ts';
export { runIn } from './run-in.ts';
export { type InterfaceOptions, openInterface, type WireGuardInterface } from './wireguard-interface.ts';
export { isWireGuardKey } from './wireguard-key.ts';
