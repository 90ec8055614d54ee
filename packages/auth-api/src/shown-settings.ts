import type { Settings } from './settings.ts';

/** The settings without secrets: RPC addresses keep scheme and host only. */
export function shownSettings(settings: Settings): Record<string, unknown> {
  const { source } = settings;
  if (source.type === 'allow-list') return { ...settings };
  const rpcUrls = source.rpcUrls.map((url) => (URL.canParse(url) ? new URL(url).origin : '<not a URL>'));
  return { ...settings, source: { ...source, rpcUrls } };
}
