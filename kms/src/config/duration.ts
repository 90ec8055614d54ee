const UNITS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 };

/** Seconds of a text such as "90s", "2m", "1h30m" or "1d"; undefined for anything else. */
export function parseDuration(text: string): number | undefined {
  if (!/^(\d{1,9}[smhd])+$/.test(text)) return undefined;
  let seconds = 0;
  for (const [, count, unit] of text.matchAll(/(\d+)([smhd])/g)) seconds += Number(count) * UNITS[unit!]!;
  return seconds;
}

const SIZES: Readonly<Record<string, number>> = {
  B: 1,
  KIB: 1024,
  MIB: 2 ** 20,
  GIB: 2 ** 30,
  KB: 1000,
  MB: 1_000_000,
  GB: 1_000_000_000,
};

/** Bytes of a size such as "1MiB", "64 KiB", "500kB"; undefined for anything else. */
export function parseSize(size: string | number): number | undefined {
  if (typeof size === 'number') return size;
  const match = /^(\d{1,9})\s*([A-Za-z]{0,3})$/.exec(size.trim());
  const factor = SIZES[(match?.[2] || 'B').toUpperCase()];
  return match === null || factor === undefined ? undefined : Number(match[1]) * factor;
}
