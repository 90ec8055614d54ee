import { expect, test } from 'vitest';
import { download } from './resumable-download.ts';

/** The addresses that are asked for a file at `url`, when the first one leads to `location`. */
async function asked(url: string, location: string): Promise<string[]> {
  const addresses: string[] = [];
  const chunks = download(url, {
    maxBytes: 1024,
    signal: new AbortController().signal,
    fetch: async (address) => {
      addresses.push(address);
      if (addresses.length > 1) return new Response('bytes');
      return new Response(null, { status: 301, headers: { location } });
    },
  });
  let text = '';
  for await (const chunk of chunks) text += Buffer.from(chunk).toString();
  expect(text).toBe('bytes');
  return addresses;
}

test.each([
  ['http://images.example.com/a', '/b', 'http://images.example.com/b'],
  ['http://images.example.com/a', 'https://images.example.com/a', 'https://images.example.com/a'],
  ['http://images.example.com:80/a', 'https://images.example.com:443/b', 'https://images.example.com/b'],
  [
    'http://images.example.com:8000/a',
    'http://images.example.com:8000/b',
    'http://images.example.com:8000/b',
  ],
])('%s may lead to %s', async (url, location, address) => {
  expect((await asked(url, location)).at(-1)).toBe(address);
});

test.each([
  ['to another host', 'http://images.example.com/a', 'https://other.example.com/a'],
  ['to a host below', 'http://example.com/a', 'https://images.example.com/a'],
  ['back to http', 'https://images.example.com/a', 'http://images.example.com/a'],
  ['to another port', 'http://images.example.com/a', 'https://images.example.com:8443/a'],
  ['from another port', 'http://images.example.com:8000/a', 'https://images.example.com/a'],
  ['to another port of http', 'http://images.example.com/a', 'http://images.example.com:8000/a'],
  ['to no web address', 'http://images.example.com/a', 'ftp://images.example.com/a'],
])('a redirect %s is refused', async (_, url, location) => {
  await expect(asked(url, location)).rejects.toMatchObject({
    code: 'image-unavailable',
    message: expect.stringContaining('redirect to another host'),
  });
});
