/** Shown by Info and in X-App-Version. */
export const VERSION = '0.6.0';
