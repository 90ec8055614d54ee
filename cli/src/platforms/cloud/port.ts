import { CliError, EXIT } from '../../errors.ts';

/** A port of a machine. */
export interface Port {
  readonly protocol: 'tcp' | 'udp';
  readonly number: number;
}

/** `N` or `N/tcp`, `N/udp`. @throws CliError `bad_argument` */
export function parsePort(text: string): Port {
  const match = /^(\d{1,5})(?:\/(tcp|udp))?$/.exec(text);
  const number = Number(match?.[1]);
  if (match !== null && number >= 1 && number <= 65_535)
    return { number, protocol: (match[2] ?? 'tcp') as Port['protocol'] };
  throw new CliError('bad_argument', `${JSON.stringify(text)} is no port`, {
    expected: 'a number from 1 to 65535, with /tcp or /udp if you like',
    exitCode: EXIT.usage,
  });
}

/** A network in CIDR form. @throws CliError `bad_argument` */
export function parseSource(text: string): string {
  const v4 = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})(?:\/(\d{1,2}))?$/.exec(text);
  const isV4 = v4?.slice(1, 5).every((part) => Number(part) < 256) === true && Number(v4[5] ?? 32) <= 32;
  const isV6 =
    /^[0-9a-fA-F:]*:[0-9a-fA-F:]*(\/\d{1,3})?$/.test(text) && Number(text.split('/')[1] ?? 128) <= 128;
  if (isV4 || isV6) return text.includes('/') ? text : `${text}/${isV4 ? 32 : 128}`;
  throw new CliError('bad_argument', `${JSON.stringify(text)} is no network`, {
    expected: 'an address or a network, such as 203.0.113.7/32',
    exitCode: EXIT.usage,
  });
}
