import type { Settings } from './settings.ts';

/** The settings without secrets: RPC addresses keep scheme and host only. */
export function shownSettings(settings: Settings): Record<string, unknown> {
  const { source } = settings;
  if (source.type === 'allow-list') return { ...settings };
  const { lightClientUrl } = source;
  return {
    ...settings,
    source: {
      ...source,
      rpcUrls: source.rpcUrls.map(shownUrl),
      ...(lightClientUrl === undefined ? {} : { lightClientUrl: shownUrl(lightClientUrl) }),
    },
  };
}

function shownUrl(url: string): string {
  return URL.canParse(url) ? new URL(url).origin : '<not a URL>';
}
