// What projecting and blending splats must agree on, on every device.
#pragma once

namespace n3d {

constexpr double kAlphaMin = 1.0 / 255;     // a splat is not blended where its alpha is smaller: a step of 8 bits
constexpr double kAlphaMax = 0.99;          // nothing is opaque: the light behind it keeps a gradient
constexpr double kTransmittanceMin = 1e-4;  // blending stops before the splat that would let less than this through
constexpr double kSlopeMargin = 1.3;        // the EWA Jacobian follows x/z and y/z this far, in half fields of view
constexpr double kDeterminantMin = 1e-10;   // pixels⁴; ellipses with less lie between the pixels, and 1/det overflows
constexpr double kCompensationMin = 0.005;  // Mip-Splatting's floor of √(det Σ / det(Σ + bI)): its slope at 0 is ∞

}  // namespace n3d
