/** The release of the original whose commands these are. */
export const VERSION = '0.6.0';
