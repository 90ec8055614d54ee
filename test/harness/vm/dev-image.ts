/** The images of this checkout, each built once for all tests that boot it. */
export { devImage, prodImage } from '@dstack-cloud/scripts/demo/dev-image';
