/**
 * The part of the shader that knows where a window pixel looks: geometry/lens.mjs in GLSL.
 *
 * How far neighbouring pixels look apart comes from derivatives by formula: they are right on both sides of a
 * face edge and across the back meridian, where differences between neighbouring pixels would jump and show as
 * a line of wrong mipmaps. Arc tangent and sine are written out, because graphics cards may be off by a
 * thousandth there, several pixels of a large panorama; ours stay within 0.002 pixels of one 16384 wide.
 */

export const RAYS = `
uniform vec2 u_window;       // size of the window in pixels
uniform float u_reach;       // half its width on the plane
uniform vec2 u_centre;       // the point of the plane in its middle
uniform vec2 u_turn;         // cosine and sine of a turn in the plane
uniform vec2 u_bend;
uniform mat3 u_rotation;     // camera to world

const float PI = 3.141592653589793;

// From directions in the window to those in the plane.
mat2 turned() {
  return mat2(u_turn.x, -u_turn.y, u_turn.y, u_turn.x);
}

// From the middle of the window, in pixels, along the axes of the plane.
vec2 fromMiddle() {
  return turned() * (gl_FragCoord.xy - 0.5 * u_window);
}

// Twice the arc tangent of -1 ... 1, within 5e-7: an odd polynomial, fitted for the least greatest error.
float twiceArcTangent(float t) {
  float q = t * t;
  float high = -0.264667096 + q * (0.159247326 + q * (-0.0672084286 + q * 0.0136235826));
  return t * (1.999992224 + q * (-0.66634736 + q * (0.39615631 + q * high)));
}

// Longitude and latitude of a ray, through half their tangents: these need no cases but front and back.
vec2 lonLatOf(vec3 ray) {
  float across = length(ray.xz);
  float ahead = twiceArcTangent(ray.x / max(abs(ray.z) + across, 1e-30));
  float lon = ray.z < 0.0 ? (ray.x < 0.0 ? -PI : PI) - ahead : ahead;
  return vec2(lon, twiceArcTangent(ray.y / (across + length(ray))));
}

// Sine within 1e-8, of an angle that is brought to -PI / 2 ... PI / 2 before.
float sine(float angle) {
  float a = abs(angle - 0.5 * PI - 2.0 * PI * floor(0.5 * angle / PI - 0.25) - PI) - 0.5 * PI;
  float q = a * a;
  return a * (1.0 + q * (-0.16666655 + q * (0.0083332986 + q * (-0.00019804603 + q * 2.5957112e-6))));
}

// What lies at a point of the plane: a ray (of any length), its derivatives along the plane's axes, and how far inside
// the border of the plane's content the point is. What a cube's face has there is the face's own, to be turned to its
// place: see placed.
struct Plane { vec3 ray, alongX, alongY; float border; vec2 turns; };

#if PROJECTION == BENT
Plane planeAt(vec2 p) {
  vec2 slope = -0.5 * u_bend * p;
  return Plane(vec3(p, 1.0 + 0.5 * dot(slope, p)), vec3(1.0, 0.0, slope.x), vec3(0.0, 1.0, slope.y), 1e9, vec2(0.0));
}

#elif PROJECTION == FISHEYE
Plane planeAt(vec2 p) {
  float angle = length(p);
  float inside = min(angle, 1.7); // nothing is shown beyond PI / 2
  float forward = sine(0.5 * PI - inside);
  float across = inside > 1e-4 ? sine(inside) / inside : 1.0;
  float fall = inside > 1e-2 ? (forward - across) / (inside * inside) : -1.0 / 3.0;
  return Plane(
    vec3(p * across, forward),
    vec3(across + fall * p.x * p.x, fall * p.x * p.y, -across * p.x),
    vec3(fall * p.x * p.y, across + fall * p.y * p.y, -across * p.y),
    0.5 * PI - angle,
    vec2(0.0)
  );
}

#elif PROJECTION == CUBEMAP_CROSS || PROJECTION == CUBEMAP_3X2
Plane planeAt(vec2 p) {
  vec2 cell = floor(0.5 * (p + 1.0));
#if PROJECTION == CUBEMAP_CROSS
  float belt = min(min(p.x + 3.0, 5.0 - p.x), 1.0 - abs(p.y));
  float pillar = min(1.0 - abs(p.x), 3.0 - abs(p.y));
  float border = max(belt, pillar);
  cell = pillar > belt ? vec2(0.0, clamp(cell.y, -1.0, 1.0)) : vec2(clamp(cell.x, -1.0, 2.0), 0.0);
  vec2 turns = cell; // L F R B, and U above F, D below it
#else
  float border = min(min(p.x + 1.0, 5.0 - p.x), min(1.0 - p.y, p.y + 3.0));
  cell = vec2(clamp(cell.x, 0.0, 2.0), p.y < -1.0 ? -1.0 : 0.0);
  vec2 lower = cell.x == 0.0 ? vec2(-1.0, 0.0) : vec2(0.0, 3.0 - 2.0 * cell.x); // L, U, D
  vec2 turns = cell.y < 0.0 ? lower : cell; // F R B above
#endif
  return Plane(vec3(p - 2.0 * cell, 1.0), vec3(1.0, 0.0, 0.0), vec3(0.0, 1.0, 0.0), border, turns);
}
#endif

// In the camera's frame.
vec3 placed(vec3 along, Plane plane) {
#if PROJECTION == CUBEMAP_CROSS || PROJECTION == CUBEMAP_3X2
  // By quarter turns to the right (-1 ... 2), after one up (1) or down (-1).
  vec2 turns = plane.turns, level = 1.0 - abs(turns);
  along = vec3(along.x, level.y * along.yz + turns.y * vec2(along.z, -along.y));
  float side = turns.x * (2.0 - abs(turns.x));
  along.xz = level.x * along.xz + side * vec2(along.z, -along.x);
#endif
  return along;
}

// Where a window pixel looks, how far apart in radians neighbouring pixels look there, and how many pixels inside the
// border it is. Each of the columns of change is a neighbour's (right of it, above it) longitude and
// latitude, as far as it lies to the east and north; on a flat picture that is measured in longitude. The ray has
// any length.
struct Sight { vec2 lonLat; float footprint; mat2 change; float border; vec3 ray; };

#if PROJECTION == EQUIRECTANGULAR
Sight sightAt(vec2 p, float perPixel) {
  float border = min(PI - abs(p.x - u_centre.x), 0.5 * PI - abs(p.y));
  float lon = p.x - 2.0 * PI * floor(p.x / (2.0 * PI) + 0.5);
  mat2 change = turned() * perPixel;
  vec3 ray = vec3(0.0);
#ifdef CUBE
  float across = sine(0.5 * PI - p.y); // half a pixel beyond a pole it is behind it
  ray = vec3(across * sine(lon), sine(p.y), across * sine(0.5 * PI - lon));
#endif
  return Sight(vec2(lon, p.y), perPixel, change, border / perPixel, ray);
}
#else
Sight sightAt(vec2 p, float perPixel) {
  Plane plane = planeAt(p);
  vec3 ray = u_rotation * placed(plane.ray, plane);
  float size = dot(plane.ray, plane.ray);
  // How far a step along its derivatives turns the ray.
  vec3 turnX = cross(plane.ray, plane.alongX), turnY = cross(plane.ray, plane.alongY);
  float footprint = perPixel * sqrt(max(dot(turnX, turnX), dot(turnY, turnY))) / size;
  mat2 change = mat2(0.0);
#ifdef ANISOTROPIC
  float safe = max(length(ray.xz), 1e-20);
  vec3 east = vec3(ray.z, 0.0, -ray.x) * inversesqrt(size) / safe;
  vec3 north = vec3(-ray.x * ray.y, safe * safe, -ray.z * ray.y) / (safe * size);
  mat2x3 along = u_rotation * mat2x3(placed(plane.alongX, plane), placed(plane.alongY, plane)) * perPixel;
  change = mat2(dot(east, along[0]), dot(north, along[0]), dot(east, along[1]), dot(north, along[1]));
#endif
  return Sight(lonLatOf(ray), footprint, change, plane.border / perPixel, ray);
}
#endif

// How much narrower than at the equator what lies side by side in the picture is there.
float narrowing(Sight sight) {
#if PROJECTION == EQUIRECTANGULAR
  return 1.0; // it is shown as it is
#else
  return cos(sight.lonLat.y);
#endif
}

// Where that is on an equirectangular picture of the whole sphere, 0 ... 1.
vec2 onSphere(Sight sight) {
  return 0.5 + sight.lonLat * vec2(0.5, -1.0) / PI;
}

// Colours multiplied by alpha, so that transparent texels do not bleed.
vec4 premultiplied(vec4 value) {
  return vec4(value.rgb * value.a, value.a);
}
`;
