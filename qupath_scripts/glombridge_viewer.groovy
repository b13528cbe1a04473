/*
 * glombridge_viewer.groovy - what the review window has of QuPath; not run by itself.
 *
 * Does:   moves QuPath's viewer, opens and saves its images and notices when something else has changed them, shows
 *         small pictures of objects.
 * Needs:  QuPath 0.4 or later with its user interface, no extension. It must lie in the same folder as the other scripts.
 * Tried:  in QuPath 0.4.4 and 0.5.1, built from their sources with JavaFX 11. What it calls is in the sources of 0.6.0
 *         and 0.7.0.
 */

import groovy.transform.Field
import java.util.concurrent.ExecutorService
import java.util.concurrent.Executors
import javafx.application.Platform
import javafx.beans.value.ChangeListener
import javafx.geometry.Pos
import javafx.scene.control.Label
import javafx.scene.control.ListCell
import javafx.scene.image.ImageView
import javafx.scene.image.PixelFormat
import javafx.scene.image.WritableImage
import javafx.scene.layout.HBox
import javafx.scene.layout.Priority
import javafx.scene.layout.VBox
import javafx.stage.Stage
import qupath.lib.regions.RegionRequest

/** All that the window asks of QuPath's user interface; a test gives another one. */
class QuPathDesk {

    private final gui
    private ChangeListener listener

    QuPathDesk() {
        // By name, so that this script can be compiled where there is no user interface.
        gui = Class.forName('qupath.lib.gui.QuPathGUI').getInstance()
        if (gui == null) {
            throw new IllegalStateException('The review window needs QuPath with its user interface, not the command line.')
        }
    }

    def getProject() {
        return gui.getProject()
    }

    Stage getStage() {
        return gui.getStage()
    }

    def getImageData() {
        return gui.getImageData()
    }

    /** Every image that is open in some viewer, by the id of its entry. */
    Map getOpenImages() {
        // getViewers() became getAllViewers() in 0.5.
        def viewers = gui.metaClass.respondsTo(gui, 'getAllViewers') ? gui.getAllViewers() : gui.getViewers()
        Map open = [:]
        viewers*.getImageData().findAll { it != null }.each { data ->
            def entry = project?.getEntry(data)
            if (entry != null) {
                open[entry.getID()] = data
            }
        }
        return open
    }

    def getEntry() {
        return imageData == null ? null : project?.getEntry(imageData)
    }

    boolean open(Object entry) {
        return gui.openImageEntry(entry) || this.entry?.getID() == entry.getID()
    }

    /** What QuPath's own 'Reload data' does. */
    void reload() {
        gui.getViewer().setImageData(entry.readImageData())
    }

    /** Centres on an object and selects it, or another one that is meant. */
    void show(Object object, double viewWidths, Object selected = object) {
        def viewer = gui.getViewer()
        def roi = object.getROI()
        double width = Math.max(roi.getBoundsWidth(), roi.getBoundsHeight()) * viewWidths
        double screen = Math.min(viewer.getView().getWidth(), viewer.getView().getHeight())
        viewer.setZPosition(roi.getZ())
        viewer.setTPosition(roi.getT())
        viewer.setDownsampleFactor(Math.max(width / Math.max(screen, 100d), 0.1d))
        viewer.setCenterPixelLocation(roi.getCentroidX(), roi.getCentroidY())
        viewer.setSelectedObject(selected)
    }

    void onImageChanged(Closure told) {
        listener = { observable, before, now -> told() } as ChangeListener
        gui.imageDataProperty().addListener(listener)
    }

    void leave() {
        if (listener != null) {
            gui.imageDataProperty().removeListener(listener)
        }
    }

}

/** The image that is open: what its file was when it was opened, and how much of it is not saved. */
class OpenImage {

    private final desk
    private final shared
    private watch
    private data
    private int unsaved = 0

    OpenImage(Object desk, Object shared) {
        this.desk = desk
        this.shared = shared
    }

    /** To be called when another image is open, or the same one was read again. */
    void begin() {
        data = desk.imageData
        watch = desk.entry == null ? null : shared.watch(shared.images.stamp(desk.entry))
        unsaved = 0
    }

    /** How many decisions are not saved after this one. */
    int changed() {
        desk.imageData.setChanged(true)
        unsaved++
        return unsaved
    }

    /** Whether something else than this QuPath has changed its file. */
    boolean isStrange() {
        return watch != null && desk.entry != null && data.is(desk.imageData) &&
            watch.isStrange(shared.images.stamp(desk.entry), desk.imageData.isChanged())
    }

    /** Also what was drawn in the viewer is to be saved; QuPath would ask at every change of image. */
    boolean isSaved() {
        return desk.entry == null || !data.is(desk.imageData) || !desk.imageData.isChanged()
    }

    /** As QuPath saves it. */
    void save() {
        watch = shared.watch(shared.images.save(desk.entry, desk.imageData, watch.opened))
        unsaved = 0
    }

}

/** Small pictures of objects, read in the background, also from images that are not open. */
class Thumbnails {

    static final int SIDE_PX = 56
    private static final int KEPT = 2000

    private final project
    // One thread: not every reader of slides can be asked by several at once.
    private final ExecutorService worker = Executors.newSingleThreadExecutor { task ->
        Thread thread = new Thread(task, 'glombridge thumbnails')
        thread.daemon = true
        return thread
    }
    private final Map<String, WritableImage> pictures = new LinkedHashMap<String, WritableImage>(64, 0.75f, true) {

        @Override
        protected boolean removeEldestEntry(Map.Entry eldest) {
            return size() > KEPT
        }

    }
    private final Set<String> asked = []
    private final Map servers = [:]

    Thumbnails(Object project) {
        this.project = project
    }

    /** The picture, or null: then `arrived` is called when it is there. Called by the FX thread only. */
    WritableImage of(Map item, Closure arrived) {
        String key = item.entry + item.id
        if (pictures.containsKey(key)) {
            return pictures[key]
        }
        if (asked.add(key)) {
            worker.submit {
                WritableImage picture = read(item)
                Platform.runLater {
                    pictures[key] = picture
                    arrived()
                }
            }
        }
        return null
    }

    void close() {
        worker.submit { servers.values().findAll { it != null }.each { it.close() } }
        worker.shutdown()
    }

    private WritableImage read(Map item) {
        try {
            def server = servers.computeIfAbsent(item.entry) { id ->
                project.getImageList().find { it.getID() == id }.getServerBuilder().build()
            }
            double side = Math.max(item.width, item.height) * 1.4
            int x = Math.max(0, (int) (item.x + item.width / 2 - side / 2))
            int y = Math.max(0, (int) (item.y + item.height / 2 - side / 2))
            int w = Math.min((int) Math.ceil(side), server.getWidth() - x)
            int h = Math.min((int) Math.ceil(side), server.getHeight() - y)
            def request = RegionRequest.createInstance(server.getPath(), Math.max(1d, side / SIDE_PX), x, y, w, h, item.z, item.t)
            def region = server.readRegion(request)
            int[] argb = region.getRGB(0, 0, region.getWidth(), region.getHeight(), null, 0, region.getWidth())
            WritableImage picture = new WritableImage(region.getWidth(), region.getHeight())
            picture.getPixelWriter().setPixels(0, 0, region.getWidth(), region.getHeight(),
                PixelFormat.getIntArgbInstance(), argb, 0, region.getWidth())
            return picture
        } catch (Exception | LinkageError error) {
            // A slide that is not reachable must not stop the review: the row then has no picture.
            org.slf4j.LoggerFactory.getLogger('glombridge').warn("No thumbnail of ${item.image}: ${error}")
            return null
        }
    }

}

/** One row of the review window's list: picture, rank, confidence, reason, what became of it. */
class Row extends ListCell<Map> {

    private static final Map<String, String> SIGNS = [
        proposed: '', accepted: '\u2713', graded: '\u2713\u2713', rejected: '\u2717', disagreement: '', settled: '\u2713',
    ]

    private final walk
    private final thumbnails
    private final Closure arrived
    private final ImageView picture = new ImageView()
    private final Label head = new Label()
    private final Label below = new Label()
    private final HBox box

    Row(Object walk, Object thumbnails, Closure arrived) {
        this.walk = walk
        this.thumbnails = thumbnails
        this.arrived = arrived
        picture.setFitWidth(Thumbnails.SIDE_PX)
        picture.setFitHeight(Thumbnails.SIDE_PX)
        picture.setPreserveRatio(true)
        head.setStyle('-fx-font-weight: bold')
        HBox frame = new HBox(picture)
        frame.setMinSize(Thumbnails.SIDE_PX, Thumbnails.SIDE_PX)
        VBox text = new VBox(2, head, below)
        text.setAlignment(Pos.CENTER_LEFT)
        HBox.setHgrow(text, Priority.ALWAYS)
        box = new HBox(10, frame, text)
        box.setAlignment(Pos.CENTER_LEFT)
        setPrefWidth(0)
    }

    @Override
    protected void updateItem(Map item, boolean isEmpty) {
        super.updateItem(item, isEmpty)
        setText(null)
        setGraphic(isEmpty || item == null ? null : box)
        if (isEmpty || item == null) {
            return
        }
        picture.setImage(thumbnails.of(item, arrived))
        head.setText("${walk.inShort(item)}  ${SIGNS[item.state]}")
        below.setText([item.image, item.reason].findAll { it }.join(' - '))
        box.setOpacity(item.state in ['proposed', 'disagreement'] ? 1d : 0.6d)
    }

}

// What the review window calls on this one.

@Field Object shared = null

/** See glombridge_shared.groovy. */
int getLevel() {
    return 2
}

QuPathDesk getDesk() {
    return new QuPathDesk()
}

OpenImage openImage(Object desk) {
    return new OpenImage(desk, shared)
}

Thumbnails thumbnails(Object project) {
    return new Thumbnails(project)
}

Row row(Object walk, Object thumbnails, Closure arrived) {
    return new Row(walk, thumbnails, arrived)
}
