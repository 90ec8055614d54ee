/** An IPv6 host has at least a /64 for itself, so that is what bounds by address count, whatever zeros the text leaves out (RFC 5952). */
export function networkOf(address: string): string {
  if (!address.includes(':') || address.startsWith('::ffff:')) return address;
  const [head = '', tail = ''] = address.replace(/%.*$/, '').split('::');
  const [first, last] = [head, tail].map((part) => part.split(':').filter((group) => group !== '')) as [
    string[],
    string[],
  ];
  const omitted = Math.max(0, 8 - first.length - last.length);
  return [...first, ...Array.from({ length: omitted }, () => '0'), ...last].slice(0, 4).join(':');
}
