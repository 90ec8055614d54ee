import { GuestError } from '../errors.ts';

/** App ids that a gateway may have, lower-case hex; `any` leaves it to the network who answers. */
export type AllowedGateways = 'any' | readonly string[];

/**
 * The gateways that the key service names, as one app id or a list with commas. Whole ids are compared: a part of one
 * names nobody.
 *
 * @throws GuestError `gateway-misconfigured`
 */
export function allowedGateways(text: string): AllowedGateways {
  const ids = text
    .split(/[\s,;]+/)
    .map((id) => id.toLowerCase().replace(/^0x/, ''))
    .filter((id) => id !== '');
  if (ids.length === 0)
    throw new GuestError(
      'gateway-misconfigured',
      'Missing allowed dstack-gateway app id: the key service names none (gateway_app_id)',
    );
  if (ids.length === 1 && ids[0] === 'any') return 'any';
  const wrong = ids.find((id) => !/^[0-9a-f]{40}$/.test(id));
  if (wrong === undefined) return ids;
  throw new GuestError('gateway-misconfigured', 'The key service names a gateway that is no app id', {
    expected: '20 bytes of hex, several with commas, or any',
    found: wrong.slice(0, 80),
  });
}
