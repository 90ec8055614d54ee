import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { labelBelow, parseHostLabel } from './host-name.ts';

describe('a host name below the base domain', () => {
  it.each([
    ['myapp', 'myapp', 80, 'terminate'],
    ['myapp-8080', 'myapp', 8080, 'terminate'],
    ['myapp-443s', 'myapp', 443, 'passthrough'],
    ['myapp-8443s', 'myapp', 8443, 'passthrough'],
    ['myapps', 'myapps', 80, 'terminate'],
    ['myapp-s', 'myapp', 443, 'passthrough'],
    ['myapp-g', 'myapp', 80, 'h2'],
    ['myapp-50051g', 'myapp', 50051, 'h2'],
    ['myapp-', 'myapp', 80, 'terminate'],
    ['myapp-0', 'myapp', 0, 'terminate'],
    ['myapp-65535', 'myapp', 65535, 'terminate'],
  ])('%s asks for %s port %i, %s', (label, id, port, mode) => {
    expect(parseHostLabel(label)).toEqual({ id, port, mode });
  });

  it.each([
    ['myapp-8080sg', 'exclude'],
    ['myapp-sg', 'exclude'],
    ['myapp-8080gs', 'port'],
    ['myapp-gs', 'port'],
    ['myapp-8080ss', 'port'],
    ['myapp-abc', 'port'],
    ['myapp-65536', 'port'],
    ['myapp-99999999999', 'port'],
    ['myapp-+80', 'port'],
    ['myapp-8080-extra', 'dash'],
    ['-8080', 'empty'],
    ['', 'empty'],
    ['a.myapp', 'one level'],
  ])('%s is refused', (label, why) => {
    expect(parseHostLabel(label)).toContain(why);
  });

  it('is what was written, for every id, port and flag', () => {
    const id = fc.stringMatching(/^[a-z0-9_]{1,40}$/);
    const flag = fc.constantFrom('', 's', 'g');
    fc.assert(
      fc.property(id, fc.nat(65_535), flag, (name, port, end) => {
        const mode = end === 's' ? 'passthrough' : end === 'g' ? 'h2' : 'terminate';
        expect(parseHostLabel(`${name}-${port}${end}`)).toEqual({ id: name, port, mode });
      }),
    );
  });

  it('belongs to the domain that it ends with, and to no other', () => {
    const domains = ['apps.example.com', 'example.org'];
    expect(labelBelow('a-1.apps.example.com', domains)).toEqual({ label: 'a-1', domain: domains[0] });
    expect(labelBelow('x.y.example.org', domains)).toEqual({ label: 'x.y', domain: domains[1] });
    expect(labelBelow('apps.example.com', domains)).toBeUndefined();
    expect(labelBelow('evilapps.example.com', domains)).toBeUndefined();
    expect(labelBelow('example.org.evil.com', domains)).toBeUndefined();
  });
});
